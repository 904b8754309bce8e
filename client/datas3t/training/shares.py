"""Shares of an epoch: what is left of it, cut into equal parts for any number of readers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Interval: TypeAlias = tuple[int, int]  # places of an order, the latter excluded


@dataclass(frozen=True)
class Stage:
    """A part of an epoch with the same readers, which are the workers of all ranks.

    A rank takes the batches of its workers in turn; so its steps say how many samples each reader has read.
    """

    world_size: int
    workers: int
    batch_size: int
    steps: int  # batches of each rank

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return self.world_size * self.workers

    def read(self, reader: int) -> int:
        """Return how many samples a reader has read, if its share has as many."""
        worker = reader % self.workers
        return self.batch_size * (self.steps // self.workers + (worker < self.steps % self.workers))


def left(length: int, stages: Iterable[Stage], uneven: Literal["drop", "keep"]) -> list[Interval]:
    """Return which places of an epoch have not been read after some stages, ascending."""
    places = [(0, length)] if length else []
    for stage in stages:
        shares, over = cut(places, stage.readers, uneven)
        rest = [part for reader, share in enumerate(shares) for part in without(share, stage.read(reader))]
        places = rest + over
    return places


def cut(
    places: Sequence[Interval], readers: int, uneven: Literal["drop", "keep"]
) -> tuple[list[list[Interval]], list[Interval]]:
    """Cut places into a share for each reader, and what is too little for one more sample for each.

    With "keep" nothing is over: the first readers have one sample more.
    """
    size, over = divmod(count(places), readers)
    shares = []
    for reader in range(readers):
        share = size + (uneven == "keep" and reader < over)
        shares.append(_first(places, share))
        places = without(places, share)
    return shares, list(places)


def count(places: Iterable[Interval]) -> int:
    """Return how many places there are."""
    return sum(stop - start for start, stop in places)


def without(places: Sequence[Interval], number: int) -> list[Interval]:
    """Return the places behind the first ones."""
    rest = []
    for start, stop in places:
        skipped = min(number, stop - start)
        number -= skipped
        if start + skipped < stop:
            rest.append((start + skipped, stop))
    return rest


def _first(places: Sequence[Interval], number: int) -> list[Interval]:
    first = []
    for start, stop in places:
        taken = min(number, stop - start)
        number -= taken
        if taken:
            first.append((start, start + taken))
    return first
