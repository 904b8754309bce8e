"""A contestant in a process of its own: its CPU seconds and its memory are nobody else's."""

import hashlib
import importlib
import os
import pickle
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.places import Place, batches


@dataclass
class Turn:
    """What one turn took: seconds and CPU seconds of the reads alone, and when they ended; `peak` in MB, of the process
    so far. `held` and `grown`, in MB, are what its memory grew by, now and at most. `spent` is
    seconds by what they went to, with how often."""

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
        cpu, began = cpu_seconds(), time.perf_counter()
        yield
        self.ended = time.perf_counter()  # the same clock in all processes
        self.seconds += self.ended - began
        self.cpu += cpu_seconds() - cpu


class Reader:
    """What contestants can do; each overrides what it takes part in."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def get(self, key: int) -> bytes:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        raise NotImplementedError

    def scan(self) -> Iterator[bytes]:
        """The contents in key order."""
        raise NotImplementedError

    def skim(self) -> int:
        """Reads everything in order; how many datapoints."""
        return sum(1 for _ in self.scan())

    def random(self, turn: Turn, keys: Sequence[int], batch: int) -> None:
        digest = hashlib.sha256()
        for chosen in batches(keys, batch):
            with turn.clock():
                found = self.get_many(chosen)
            for content in found:
                digest.update(content)
            turn.count += len(found)
        turn.digest = digest.digest()

    def single(self, turn: Turn, keys: Sequence[int]) -> None:
        digest = hashlib.sha256()
        for key in keys:
            before = turn.seconds
            with turn.clock():
                found = self.get(key)
            turn.latencies.append(turn.seconds - before)
            digest.update(found)
        turn.count, turn.digest = len(keys), digest.digest()

    def everything(self, turn: Turn, compare: bool) -> None:
        if compare:
            digest = hashlib.sha256()
            for content in self.scan():
                digest.update(content)
            turn.digest = digest.digest()
        else:
            with turn.clock():
                turn.count = self.skim()


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_rss() -> float:
    """In MB. Linux' ru_maxrss begins with that of the parent, its VmHWM with our own."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def rss() -> float:
    """What this process holds now, in MB."""
    import psutil  # noqa: PLC0415 - only the few that ask have it

    return float(psutil.Process().memory_info().rss) / 1e6


def main() -> None:
    """The process: takes orders as pickles on standard input, and answers on standard output (`bench.turns`)."""
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print
    module, name = sys.argv[1:]
    kind = getattr(importlib.import_module(module), name)
    contestant = kind(*pickle.load(orders))
    while True:
        pickle.dump("ready", answers)
        answers.flush()
        try:
            method, arguments = pickle.load(orders)
        except EOFError:
            return
        turn = Turn()
        getattr(contestant, method)(turn, *arguments)
        turn.peak = peak_rss()
        pickle.dump(turn, answers)
