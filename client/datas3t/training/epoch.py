"""Epoch: which samples each step of an epoch has, for every rank, from any place in it on."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from datas3t.training.order import Order
from datas3t.training.permutation import Numbers

Uneven: TypeAlias = Literal["drop", "pad", "keep"]


def _none() -> Numbers:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Epoch:
    """The rest of an epoch from a position on, cut into steps.

    Step t has the same samples for each world size, as long as `batch_size * world_size` is the same: the next
    `batch_size * world_size` places of the order, of which rank r has the r-th share. So a run continues on another
    number of machines, and workers that each take every n-th step have all steps together.

    Args:
        order: The order of the samples.
        number: The number of the epoch.
        position: At which place of the order the first step starts.
        batch_size: How many samples a rank has in a step.
        world_size: How many ranks there are.
        uneven: What happens to the samples that are too few for a last step. See `Batches`.
        gone: The places of samples that are not read, ascending.
    """

    order: Order
    number: int
    position: int
    batch_size: int
    world_size: int = 1
    uneven: Uneven = "drop"
    gone: Numbers = field(default_factory=_none, compare=False)

    @property
    def steps(self) -> int:
        """How many steps there are. With "keep", a rank without a sample in the last one has one step less."""
        whole, over = divmod(self._left, self._global)
        return whole + (over > 0 and self.uneven != "drop")

    def steps_of(self, rank: int) -> int:
        """Return how many steps have samples for a rank."""
        return self.steps - (self.steps > 0 and not len(self._share(self.steps - 1, rank)))

    def take(self, step: int, rank: int = 0) -> Numbers:
        """Return the positions that a rank reads in a step, which is 0 for the first one from `position` on."""
        share = self._share(step, rank)
        return self.order.at(self.number, self._places(np.arange(share.start, share.stop, dtype=np.int64)))

    def after(self, steps: int) -> int:
        """Return the position behind the first steps: a run that continues there has the samples of the others."""
        if not steps:
            return self.position
        last = min(self._done + steps * self._global, self._total - self._dropped) - 1
        return int(self._places(np.array([last]))[0]) + 1

    @property
    def _global(self) -> int:
        return self.batch_size * self.world_size

    @property
    def _total(self) -> int:
        """How many samples the epoch has; a sample's number among them is its place without those that are gone."""
        return self.order.length - len(self.gone)

    @property
    def _done(self) -> int:
        return self.position - int(np.searchsorted(self.gone, self.position))

    @property
    def _left(self) -> int:
        return self._total - self._done

    @property
    def _dropped(self) -> int:
        return self._left % self._global if self.uneven == "drop" else 0

    @property
    def _hole(self) -> int:
        """Return the number of the first sample that is dropped, in an order that is not shuffled.

        The last samples of a shuffled epoch are others each time. Without a shuffle it would always be the same ones:
        so each epoch leaves out the samples in front of those that the epoch before left out.
        """
        dropped = self._dropped
        rounds = self._total // dropped if dropped and self.order.shuffle == "none" else 1
        hole = self._total - dropped * (1 + self.number % rounds)
        return hole if hole >= self._done else self._total - dropped

    def _share(self, step: int, rank: int) -> range:
        """Return the numbers of the samples of a rank in a step, those that are dropped not counted."""
        start = self._done + step * self._global
        count = self._total - start
        if self.uneven == "keep" and count < self._global:  # as even as possible
            shares = [start - (-count * each // self.world_size) for each in (rank, rank + 1)]
            return range(*shares)
        return range(start + rank * self.batch_size, start + (rank + 1) * self.batch_size)

    def _places(self, numbers: Numbers) -> Numbers:
        """Return the places of samples by their numbers. "pad" counts on from the first sample of the epoch."""
        if self.uneven == "pad":
            numbers = numbers % self._total
        if self._dropped:
            numbers = np.where(numbers >= self._hole, numbers + self._dropped, numbers)
        # In front of the i-th place that is gone are its place minus i samples.
        ahead = self.gone - np.arange(len(self.gone))
        return numbers + np.searchsorted(ahead, numbers, "right")
