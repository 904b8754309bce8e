"""Contestants take turns: one process each, who comes first changing from round to round."""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contestant import Turn
from bench.front import Asked, Front
from bench.places import Place

_REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Entrant:
    """A contestant: what the tables call it, and the class that does it, as `module:Class`. Slow ones may read fewer
    keys where only the rate counts."""

    name: str
    kind: str
    keys: int | None = None


class Contestant:
    """A process that answers one order after the other."""

    def __init__(self, kind: str, *arguments: object, cache: Path | None = None) -> None:
        """`cache` is the folder where the SDK keeps indices, if it is to be another than the others'."""
        module, name = kind.split(":")
        environment = {**os.environ, **({"DATAS3T_CACHE_DIR": str(cache)} if cache else {})}
        command = [sys.executable, "-c", "from bench.contestant import main; main()", module, name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY, env=environment
        )
        self._send(arguments)
        self._ready = False

    def turn(self, method: str, *arguments: object) -> Turn:
        """Has it do that, and waits."""
        self.begin(method, *arguments)
        return self.end()

    def begin(self, method: str, *arguments: object) -> None:
        self.wait_ready()
        self._ready = False
        self._send((method, arguments))

    def end(self) -> Turn:
        found = self._receive()
        assert isinstance(found, Turn)
        return found

    def wait_ready(self) -> None:
        """Many can get ready at a time: making one does not wait."""
        if not self._ready:
            assert self._receive() == "ready"
            self._ready = True

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _send(self, what: object) -> None:
        assert self._process.stdin
        pickle.dump(what, self._process.stdin)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            sys.exit(f"a contestant ended with {self._process.wait()}; what it said stands above")


@contextlib.contextmanager
def contestants(entrants: Sequence[Entrant], *arguments: object) -> Iterator[dict[str, Contestant]]:
    """All of them, until the block ends."""
    running: dict[str, Contestant] = {}
    try:
        for entrant in entrants:
            running[entrant.name] = Contestant(entrant.kind, *arguments)
        for each in running.values():
            each.wait_ready()
        yield running
    finally:
        for each in running.values():
            each.close()


@dataclass(frozen=True)
class Order:
    """A turn to take: a method of `Reader` with its arguments, and the digest of the contents (empty: not compared)."""

    method: str
    arguments: tuple[Any, ...]
    expected: bytes


@dataclass
class Result:
    """The turns of one contestant, and what was asked of S3 in each, where it can be counted."""

    turns: list[Turn]
    asked: list[Asked]


def contest(
    place: Place, front: Front | None, entrants: Sequence[Entrant], rounds: int, order: Callable[[Entrant, int], Order]
) -> dict[str, Result]:
    """Rounds of turns, after one to warm up, which has number 0. Ends the bench where contents are wrong."""
    results = {entrant.name: Result([], []) for entrant in entrants}
    with contestants(entrants, place) as running:
        for number in range(rounds + 1):
            for entrant in _rotated(entrants, number):
                chosen = order(entrant, number)
                if front:
                    front.count_anew()
                turn = running[entrant.name].turn(chosen.method, *chosen.arguments)
                if turn.digest != chosen.expected:
                    sys.exit(f"what {entrant.name} read is not what was uploaded")
                if number:
                    results[entrant.name].turns.append(turn)
                    if front:
                        results[entrant.name].asked.append(front.asked())
    return results


def _rotated(entrants: Sequence[Entrant], number: int) -> Sequence[Entrant]:
    at = number % len(entrants)
    return [*entrants[at:], *entrants[:at]]
