"""A client of the soak run: aggregates neighbouring dataranges from two threads, and imports the bucket from a third.

    python -m tests.faults.aggregator LOG DATAS3T SEED URL...

It writes a line to its log for each outcome. It runs in its own process, which the soak run kills at any time.
"""

import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from datas3t.client import Client, Datarange, Datas3tError
from tests.faults.writer import SPAN

PAUSE = 0.3  # seconds between two steps of a thread


class Aggregator:
    """Repeats its steps at random, by a generator with a seed, on any of the servers."""

    def __init__(self, log: Path, name: str, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        self._seed = seed
        self._clients = [Client(url, timeout=10) for url in urls]

    def run(self) -> None:
        """Start the threads, which run until the process that started this one has ended."""
        steps: list[tuple[str, Callable[[Client, random.Random], None]]] = [
            ("aggregate", self._aggregate),
            ("aggregate", self._aggregate),
            ("import", self._import),
        ]
        for number, (name, step) in enumerate(steps):
            threading.Thread(target=self._repeat, args=(number, name, step)).start()

    def _repeat(self, number: int, name: str, step: Callable[[Client, random.Random], None]) -> None:
        generator = random.Random(self._seed * 10 + number)
        pause = threading.Event()
        parent = os.getppid()
        while not pause.wait(PAUSE) and os.getppid() == parent:
            try:
                step(generator.choice(self._clients), generator)
                outcome = "done"
            except Datas3tError as error:
                outcome = type(error).__name__
            with self._log.open("a") as out:
                out.write(f"{name}: {outcome}\n")

    def _aggregate(self, client: Client, generator: random.Random) -> None:
        candidates = [run for run in adjacent_runs(client.list_dataranges(self._name)) if len(run) > 1]
        if not candidates:
            return
        run = generator.choice(candidates)
        start = generator.randrange(len(run) - 1)
        stop = generator.randint(start + 2, min(len(run), start + 12))
        client.aggregate(self._name, run[start].first, run[stop - 1].last)

    def _import(self, client: Client, _: random.Random) -> None:
        client.import_datas3ts("local")


def adjacent_runs(dataranges: list[Datarange]) -> list[list[Datarange]]:
    """Group dataranges into runs without a gap between the keys, each within the keys of one writer."""
    runs: list[list[Datarange]] = []
    for datarange in dataranges:
        if runs and runs[-1][-1].last + 1 == datarange.first and datarange.first % SPAN:
            runs[-1].append(datarange)
        else:
            runs.append([datarange])
    return runs


if __name__ == "__main__":
    log, name, seed, *urls = sys.argv[1:]
    Aggregator(Path(log), name, int(seed), urls).run()
