"""Threads that read a datas3t by every method, and compare what they read with what was uploaded."""

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
    """Three threads that share a handle, and that wait for `pause` seconds after each read.

    `reads` counts the successful reads by method; `failures` describes others.
    """

    def __init__(self, handle: Datas3t, contents: Mapping[int, bytes], seed: int = 1, pause: float = 0.0) -> None:
        self.reads: Counter[str] = Counter()
        self.failures: list[str] = []
        self._handle = handle
        self._contents = contents
        self._keys = sorted(contents)
        self._pause = pause
        self._stopping = threading.Event()
        methods = {"get": self._get, "get_many": self._get_many, "scan": self._scan}
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, read, random.Random(f"{seed} {name}")))
            for name, read in methods.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, name: str, read: Callable[[random.Random], None], generator: random.Random) -> None:
        while not self._stopping.is_set() and not self.failures:
            try:
                read(generator)
            except BaseException:
                self.failures.append(f"{name}: {traceback.format_exc()}")
                return
            self.reads[name] += 1
            self._stopping.wait(self._pause)

    def _get(self, generator: random.Random) -> None:
        key = generator.choice(self._keys)
        assert self._handle.get(key) == self._contents[key], f"wrong content for {key}"

    def _get_many(self, generator: random.Random) -> None:
        keys = generator.choices(self._keys, k=_BATCH)
        for key, content in zip(keys, self._handle.get_many(keys), strict=True):
            assert content == self._contents[key], f"wrong content for {key}"

    def _scan(self, generator: random.Random) -> None:
        start = generator.randrange(len(self._keys))
        expected = self._keys[start : start + _SPAN]
        datapoints: Iterator[Datapoint] = self._handle.scan(expected[0], expected[-1])
        keys = []
        for datapoint in datapoints:
            keys.append(datapoint.key)
            assert datapoint.content == self._contents.get(datapoint.key), f"wrong content for {datapoint.key}"
        assert keys == expected, "keys are missing, repeated or out of order"


@contextlib.contextmanager
def reading(handle: Datas3t, contents: Mapping[int, bytes], pause: float = 0.0) -> Iterator[Readers]:
    """Read during the block; fail if any read failed, or any method has read nothing."""
    readers = Readers(handle, contents, pause=pause)
    readers.start()
    try:
        yield readers
    finally:
        readers.stop()
    assert not readers.failures, readers.failures[0]
    assert min(readers.reads[name] for name in ("get", "get_many", "scan")) > 0, readers.reads
