"""The other client of the soak run: merges what lies side by side, from two threads, and imports the bucket.

    python -m tests.faults.maintainer LOG DATAS3T SEED URL...

Its log has a line for each outcome. Like the owners it is a process of its own, to be killed at any moment.
"""

import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from datas3t.client import Client, Datarange, Datas3tError
from tests.faults.owner import SPAN

PAUSE = 0.3  # seconds between two steps of a thread


class Maintainer:
    def __init__(self, log: Path, name: str, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        self._seed = seed
        self._clients = [Client(url, timeout=10) for url in urls]

    def run(self) -> None:
        steps: list[tuple[str, Callable[[Client, random.Random], None]]] = [
            ("aggregate", self._aggregate),
            ("aggregate", self._aggregate),
            ("import", self._import),
        ]
        for number, (name, step) in enumerate(steps):
            threading.Thread(target=self._repeat, args=(number, name, step)).start()

    def _repeat(self, number: int, name: str, step: Callable[[Client, random.Random], None]) -> None:
        chance = random.Random(self._seed * 10 + number)
        pause = threading.Event()
        parent = os.getppid()
        while not pause.wait(PAUSE) and os.getppid() == parent:  # it ends with whoever started it
            try:
                step(chance.choice(self._clients), chance)
                outcome = "done"
            except Datas3tError as error:
                outcome = type(error).__name__
            with self._log.open("a") as out:
                out.write(f"{name}: {outcome}\n")

    def _aggregate(self, client: Client, chance: random.Random) -> None:
        long = [run for run in runs(client.list_dataranges(self._name)) if len(run) > 1]
        if not long:
            return
        run = chance.choice(long)
        start = chance.randrange(len(run) - 1)
        stop = chance.randint(start + 2, min(len(run), start + 12))
        client.aggregate(self._name, run[start].first, run[stop - 1].last)

    def _import(self, client: Client, _: random.Random) -> None:
        client.import_datas3ts("local")


def runs(there: list[Datarange]) -> list[list[Datarange]]:
    """Neighbours without a gap, each run within the keys of one owner."""
    found: list[list[Datarange]] = []
    for each in there:
        if found and found[-1][-1].last + 1 == each.first and each.first % SPAN:
            found[-1].append(each)
        else:
            found.append([each])
    return found


if __name__ == "__main__":
    log, name, seed, *urls = sys.argv[1:]
    Maintainer(Path(log), name, int(seed), urls).run()
