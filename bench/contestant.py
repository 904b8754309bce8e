"""A contestant in its own process, so that its CPU time and memory can be measured."""

import hashlib
import importlib
import os
import pickle
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.places import Place, batches


@dataclass
class Turn:
    """What one turn took.

    Attributes:
        seconds: The seconds of the reads alone.
        cpu: The CPU seconds of the reads.
        ended: When the last read ended, by the performance counter.
        peak: The highest memory use of the process so far, in MB.
        held: By how much its memory use is higher than before the turn, in MB.
        grown: By how much its highest memory use is higher, in MB.
        count: How many datapoints were read.
        digest: The SHA-256 of their contents, in order.
        latencies: The seconds of each single read.
        spent: For each kind of work, the seconds it took and how often it was done.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    ended: float = 0.0
    peak: float = 0.0
    held: float = 0.0
    grown: float = 0.0
    count: int = 0
    digest: bytes = b""
    latencies: list[float] = field(default_factory=list)
    spent: dict[str, tuple[float, int]] = field(default_factory=dict)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Add the time of the block."""
        cpu, began = cpu_seconds(), time.perf_counter()
        yield
        self.ended = time.perf_counter()  # all processes have the same clock
        self.seconds += self.ended - began
        self.cpu += cpu_seconds() - cpu


class Reader:
    """The base class of contestants; each overrides the methods of the workloads that it takes part in."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def get(self, key: int) -> bytes:
        """Return the content of a datapoint."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        """Return the contents of datapoints, in the order of the keys."""
        raise NotImplementedError

    def scan(self) -> Iterator[bytes]:
        """Yield all contents in key order."""
        raise NotImplementedError

    def batches(self, batches: Iterable[Sequence[int]]) -> Iterator[Sequence[bytes]]:
        """Yield the contents of each of these batches of keys."""
        return map(self.get_many, batches)

    def skim(self) -> int:
        """Read everything in key order, and return the number of datapoints."""
        return sum(1 for _ in self.scan())

    def random(self, turn: Turn, keys: Sequence[int], batch: int) -> None:
        """Read these keys in batches."""
        digest = hashlib.sha256()
        for chosen in batches(keys, batch):
            with turn.clock():
                contents = self.get_many(chosen)
            for content in contents:
                digest.update(content)
            turn.count += len(contents)
        turn.digest = digest.digest()

    def together(self, turn: Turn, keys: Sequence[int], batch: int) -> None:
        """Read these keys in batches that are known beforehand."""
        with turn.clock():
            read = list(self.batches(batches(keys, batch)))
        digest = hashlib.sha256()
        for content in (content for contents in read for content in contents):
            digest.update(content)
        turn.count, turn.digest = len(keys), digest.digest()

    def single(self, turn: Turn, keys: Sequence[int]) -> None:
        """Read these keys one at a time."""
        digest = hashlib.sha256()
        for key in keys:
            before = turn.seconds
            with turn.clock():
                content = self.get(key)
            turn.latencies.append(turn.seconds - before)
            digest.update(content)
        turn.count, turn.digest = len(keys), digest.digest()

    def everything(self, turn: Turn, compare: bool) -> None:
        """Read everything: to compute the digest if `compare`, otherwise to take the time."""
        if compare:
            digest = hashlib.sha256()
            for content in self.scan():
                digest.update(content)
            turn.digest = digest.digest()
        else:
            with turn.clock():
                turn.count = self.skim()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the children that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_rss() -> float:
    """Return the highest memory use of this process, in MB."""
    # On Linux, ru_maxrss includes the memory of the parent before the exec; VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def rss() -> float:
    """Return the present memory use of this process, in MB."""
    import psutil  # noqa: PLC0415 - only few contestants need it

    return float(psutil.Process().memory_info().rss) / 1e6


def main() -> None:
    """Run a contestant: read orders as pickles from standard input, write turns to standard output (`bench.turns`)."""
    orders, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not go among the results
    module, name = sys.argv[1:]
    kind = getattr(importlib.import_module(module), name)
    contestant = kind(*pickle.load(orders))
    while True:
        pickle.dump("ready", results)
        results.flush()
        try:
            method, arguments = pickle.load(orders)
        except EOFError:
            return
        turn = Turn()
        getattr(contestant, method)(turn, *arguments)
        turn.peak = peak_rss()
        pickle.dump(turn, results)
