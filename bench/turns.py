"""Runs contestants in turns, each in its own process; the order changes from round to round."""

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
    """A contestant that is not running yet.

    Attributes:
        name: Its name in the tables.
        kind: Its class, as `module:Class`.
        keys: How many keys it reads, which are few for a slow contestant; None for all of them.
    """

    name: str
    kind: str
    keys: int | None = None


class Contestant:
    """A process that runs methods one after another.

    Args:
        kind: The class to run, as `module:Class`.
        arguments: Passed to the class.
        cache: The cache folder of the SDK; that of this process if None.
    """

    def __init__(self, kind: str, *arguments: object, cache: Path | None = None) -> None:
        module, name = kind.split(":")
        environment = {**os.environ, **({"DATAS3T_CACHE_DIR": str(cache)} if cache else {})}
        command = [sys.executable, "-c", "from bench.contestant import main; main()", module, name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY, env=environment
        )
        self._send(arguments)
        self._ready = False

    def turn(self, method: str, *arguments: object) -> Turn:
        """Run a method and return its result."""
        self.begin(method, *arguments)
        return self.end()

    def begin(self, method: str, *arguments: object) -> None:
        """Start a method without waiting for it."""
        self.wait_ready()
        self._ready = False
        self._send((method, arguments))

    def end(self) -> Turn:
        """Wait for the method that was started and return its result."""
        turn = self._receive()
        assert isinstance(turn, Turn)
        return turn

    def wait_ready(self) -> None:
        """Wait until the process has started; the constructor does not, so that many can start at a time."""
        if not self._ready:
            assert self._receive() == "ready"
            self._ready = True

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _send(self, message: object) -> None:
        assert self._process.stdin
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            sys.exit(f"a contestant ended with exit code {self._process.wait()}; see its output above")


@contextlib.contextmanager
def contestants(entrants: Sequence[Entrant], *arguments: object) -> Iterator[dict[str, Contestant]]:
    """Start all contestants, and end them with the block."""
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
    """A method of `Reader` to run, its arguments, and the expected digest of the contents; empty if not compared."""

    method: str
    arguments: tuple[Any, ...]
    expected: bytes


@dataclass
class Result:
    """The turns of one contestant, and the requests to S3 in each of them, if they can be counted."""

    turns: list[Turn]
    asked: list[Asked]


def contest(
    place: Place, front: Front | None, entrants: Sequence[Entrant], rounds: int, order: Callable[[Entrant, int], Order]
) -> dict[str, Result]:
    """Run a warm-up round, which has number 0, and `rounds` measured ones. Exit if contents are wrong."""
    results = {entrant.name: Result([], []) for entrant in entrants}
    with contestants(entrants, place) as running:
        for number in range(rounds + 1):
            for entrant in _rotated(entrants, number):
                chosen = order(entrant, number)
                if front:
                    front.reset_counts()
                turn = running[entrant.name].turn(chosen.method, *chosen.arguments)
                if turn.digest != chosen.expected:
                    sys.exit(f"{entrant.name} read other contents than those that were uploaded")
                if number:
                    results[entrant.name].turns.append(turn)
                    if front:
                        results[entrant.name].asked.append(front.asked())
    return results


def _rotated(entrants: Sequence[Entrant], number: int) -> Sequence[Entrant]:
    at = number % len(entrants)
    return [*entrants[at:], *entrants[:at]]
