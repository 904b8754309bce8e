"""New processes as contestants: each turn starts with creating a client."""

import hashlib
from collections.abc import Sequence

from bench.contestant import Turn, peak_rss, rss
from bench.places import batches
from datas3t.client import Client


class Newcomer:
    """A process without a client. It runs only one order, because a second would profit from the cache of the first."""

    def __init__(self, server_url: str, name: str) -> None:
        self._server_url, self._name = server_url, name

    def open(self, turn: Turn, key: int) -> None:
        """Read one datapoint."""
        with turn.clock():
            content = Client(self._server_url).datas3t(self._name).get(key)
        turn.digest = hashlib.sha256(content).digest()

    def hold(self, turn: Turn, key: int) -> None:
        """Read one datapoint and measure the memory that the handle takes, now and at its peak."""
        rss()  # imports psutil, which should not be counted
        before = rss()
        datas3t = Client(self._server_url).datas3t(self._name)
        turn.count, content = len(datas3t), datas3t.get(key)
        turn.digest = hashlib.sha256(content).digest()
        turn.held, turn.grown = rss() - before, peak_rss() - before

    def read(self, turn: Turn, keys: Sequence[int], batch: int) -> None:
        """Read the keys in batches."""
        with turn.clock():
            datas3t = Client(self._server_url).datas3t(self._name)
            read = [datas3t.get_many(chosen) for chosen in batches(keys, batch)]
        digest = hashlib.sha256()
        for content in (content for contents in read for content in contents):
            digest.update(content)
        turn.count, turn.digest = len(keys), digest.digest()
