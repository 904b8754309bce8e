"""Fuzz loops: try random inputs from a seed for some seconds, and check that invariants hold for each.

    python -m tests.fuzz.loop --seconds 60 --seed 1                                (make fuzz SECONDS=60 SEED=1)
    python -m tests.fuzz.loop --target archives --seed 1 --case 123                (one input again)

A target makes an input from a generator of random numbers and tries it. The generator of each case is made from the
seed, the target and the case's number, so any case can be repeated alone.
"""

import argparse
import itertools
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Try: TypeAlias = Callable[[random.Random, "Note"], None]
"""A function that makes an input, records it, and raises if an invariant does not hold."""
Note: TypeAlias = Callable[[object], None]
"""A function that records the input that is about to be tried."""

_SHOWN = 20_000  # characters of an input that are printed


class FindingError(AssertionError):
    """An input breaks an invariant. The message has the input, and the command that tries it again."""


def targets() -> dict[str, Callable[[], AbstractContextManager[Try]]]:
    """Return all targets by name: functions that return its context manager."""
    from tests.fuzz import archives, flips, front, interrupts

    return {
        "archives": archives.target,
        "flips": flips.target,
        "rest": front.rest,
        "grpc": front.grpc_messages,
        "edge": front.edge,
        "interrupts": interrupts.target,
    }


def fuzz(name: str, attempt: Try, seed: int, seconds: float, first_case: int = 0) -> int:
    """Try inputs for some seconds, at least one, and return their number.

    Raises:
        FindingError: An input breaks an invariant.
    """
    end = time.monotonic() + seconds
    for case in itertools.count(first_case):
        noted: list[object] = []
        try:
            attempt(random.Random(f"{seed} {name} {case}"), noted.append)
        except Exception as error:
            shown = "\n".join(repr(each)[:_SHOWN] for each in noted) or "none was recorded"
            raise FindingError(
                f"{name}, seed {seed}, case {case}: {type(error).__name__}: {error}\n"
                f"again: python -m tests.fuzz.loop --target {name} --seed {seed} --case {case}\ninput:\n{shown}"
            ) from error
        if time.monotonic() >= end:
            return case - first_case + 1
    raise AssertionError("unreachable")


@contextmanager
def replaced(*changes: tuple[object, str, object]) -> Iterator[None]:
    """Replace attributes of modules for the block: (module, name, value)."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def main() -> int:
    """Run the targets one after another for equal times, and return the exit code."""
    known = targets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", choices=sorted(known), action="append")
    parser.add_argument("--case", type=int, default=None, help="try only the input with this number")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    names = options.target or list(known)
    seconds = 0 if options.case is not None else options.seconds / len(names)
    print(f"seed {seed}, {options.seconds:.0f} seconds", flush=True)
    found = 0
    for name in names:
        try:
            with known[name]() as attempt:
                count = fuzz(name, attempt, seed, seconds, options.case or 0)
            print(f"{count:>8,}  inputs of {name}", flush=True)
        except FindingError as finding:
            print(finding, flush=True)
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
