"""Readers of one datas3t, in every way there is, that hold all they read against what was uploaded."""

import contextlib
import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from datas3t.client import Datapoint, Datas3t

_BATCH = 60  # keys of a get_many
_SPAN = 200  # keys of a scan


class Readers:
    """Threads that share a handle; `reads` counts by kind what came back right, `wrong` says what did not."""

    def __init__(self, handle: Datas3t, contents: Mapping[int, bytes], seed: int = 1) -> None:
        self.reads: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._handle = handle
        self._contents = contents
        self._keys = sorted(contents)
        self._stopping = threading.Event()
        kinds = {"get": self._get, "get_many": self._get_many, "scan": self._scan}
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind, read, random.Random(f"{seed} {kind}")))
            for kind, read in kinds.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind: str, read: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self._stopping.is_set() and not self.wrong:
            try:
                read(chance)
            except BaseException:
                self.wrong.append(f"{kind}: {traceback.format_exc()}")
                return
            self.reads[kind] += 1

    def _get(self, chance: random.Random) -> None:
        key = chance.choice(self._keys)
        assert self._handle.get(key) == self._contents[key], f"other bytes for {key}"

    def _get_many(self, chance: random.Random) -> None:
        keys = chance.choices(self._keys, k=_BATCH)
        for key, content in zip(keys, self._handle.get_many(keys), strict=True):
            assert content == self._contents[key], f"other bytes for {key}"

    def _scan(self, chance: random.Random) -> None:
        start = chance.randrange(len(self._keys))
        expected = self._keys[start : start + _SPAN]
        found: Iterator[Datapoint] = self._handle.scan(expected[0], expected[-1])
        keys = []
        for datapoint in found:
            keys.append(datapoint.key)
            assert datapoint.content == self._contents.get(datapoint.key), f"other bytes for {datapoint.key}"
        assert keys == expected, "keys are missing, doubled or out of order"


@contextlib.contextmanager
def reading(handle: Datas3t, contents: Mapping[int, bytes]) -> Iterator[Readers]:
    """Readers that run as long as the block, none of which may fail; each kind must have read something."""
    readers = Readers(handle, contents)
    readers.start()
    try:
        yield readers
    finally:
        readers.stop()
    assert not readers.wrong, readers.wrong[0]
    assert min(readers.reads[kind] for kind in ("get", "get_many", "scan")) > 0, readers.reads
