"""Batches: the keys of each batch of a training run, for one rank, with a state to resume from."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import index as integer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datas3t.client import InvalidArgument, KeySet
from datas3t.training import state as states
from datas3t.training.epoch import Epoch, Uneven
from datas3t.training.order import Order, Shuffle
from datas3t.training.permutation import checked_word
from datas3t.training.state import OnChange, State


class Batches:
    """The batches of a training run: which keys a rank reads in each step.

    Iterating yields the rest of the current epoch, an array of keys for each step, and then moves on to the next epoch;
    so an epoch has its own order even if `set_epoch` is forgotten. All ranks together read in step t the next
    `batch_size * world_size` samples of the order. As long as this product is the same, step t is the same for each
    world size, and a run continues on another number of machines where it was. With another product it still reads
    no key twice in an epoch.

    It takes no memory for its samples and starts no thread. It can be pickled.

    Example:
        >>> batches = Batches(photos.keyset, 256, seed=7, rank=rank, world_size=world_size)
        >>> for epoch in range(10):
        ...     for contents in photos.batches(batches):
        ...         learn(contents)

    Args:
        keys: The keys of the datapoints to read.
        batch_size: How many samples this rank reads in a step.
        seed: Another seed gives another order.
        shuffle: "global", "window" or "none"; see `Order`.
        block: See `Order`.
        window: See `Order`.
        rank: The number of this process, from 0 on.
        world_size: How many processes read a share of each step.
        uneven: What happens to the last samples of an epoch, which are too few for a step. "drop" leaves them out, in
            each epoch others. "pad" fills the step with the first samples of the epoch, which are then read twice.
            "keep" reads each sample exactly once: the last step is smaller, and a rank may have no share in it.

    Raises:
        InvalidArgument: One of them is out of its range.
    """

    def __init__(
        self,
        keys: KeySet,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = "global",
        block: int = 1024,
        window: int = 512,
        rank: int = 0,
        world_size: int = 1,
        uneven: Uneven = "drop",
    ) -> None:
        batch_size, rank, world_size = integer(batch_size), integer(rank), integer(world_size)
        if batch_size < 1:
            raise InvalidArgument(f"batch_size must be at least 1, but is {batch_size}")
        if not 0 <= rank < world_size:
            raise InvalidArgument(f"rank must be 0 to world_size-1, but is {rank} of {world_size}")
        if uneven not in ("drop", "pad", "keep"):
            raise InvalidArgument(f"uneven must be 'drop', 'pad' or 'keep', but is {uneven!r}")
        self.keys, self.rank = keys, rank
        self._read = keys  # those of this epoch: they stay while it lasts
        self._next = Epoch(Order(len(keys), seed, shuffle, block, window), 0, 0, batch_size, world_size, uneven)
        self._now = self._next

    @property
    def order(self) -> Order:
        """The order of the epochs from the next one on."""
        return self._next.order

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0 on."""
        return self._now.number

    @property
    def position(self) -> int:
        """How many samples of the current epoch all ranks together have read."""
        return self._now.position

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return replace(self._now, position=0).steps_of(self.rank)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        begun = now = self._now
        for step in range(begun.steps_of(self.rank)):
            keys = self.take(begun, step)
            if self._now is now:  # else another iteration, or a call, has set it
                self._now = now = replace(begun, position=begun.after(step + 1))
            yield keys
        if self._now is now:
            self._begin(begun.number + 1)

    def rest(self) -> Epoch:
        """Return the rest of the current epoch, from which each step follows; it does not change.

        Example:
            >>> rest = batches.rest()
            >>> for step in range(worker, rest.steps_of(batches.rank), workers):  # every n-th step, in each worker
            ...     learn(photos.get_many(batches.take(rest, step)))
        """
        return self._now

    def take(self, rest: Epoch, step: int) -> NDArray[np.int64]:
        """Return the keys of this rank in a step of the current epoch."""
        return self._read.take(rest.take(step, self.rank))

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch. If it is the current one, the position in it stays."""
        if checked_word(epoch) != self.epoch:
            self._begin(integer(epoch))

    def state_dict(self, position: int | None = None) -> State:
        """Return where the run is, as an object for JSON of less than 200 bytes (without blanks).

        Args:
            position: How many samples of the epoch count as read, `rest().after(steps)`, for a caller that takes
                batches earlier than it uses them.

        It is the same for all ranks, and can be loaded with any number of ranks. It is longer only in an epoch during
        which keys came or went.
        """
        place = self.position if position is None else integer(position)
        return states.saved(self._read, self.keys, self._now.order, self.epoch, place)

    def load_state_dict(
        self, state: Mapping[str, Any], *, on_change: OnChange = "raise", before: KeySet | None = None
    ) -> None:
        """Continue at the batch behind the last one of a state.

        Args:
            state: What `state_dict` returned.
            on_change: What to do if the keys are not those with which the state was saved. "raise" raises. "continue"
                finishes the epoch with the keys that it began with, without those that are gone; new ones are read from
                the next epoch on.
            before: The keys with which the state was saved. They are needed only if keys were deleted, or came between
                others, since.

        Raises:
            FailedPrecondition: The keys have changed; the error says how many came and went.
            InvalidArgument: It is not a state, or one of a run with another seed or shuffle.
        """
        states.check_settings(state, self.order)
        keys = states.keys_of(state, self.keys, before, on_change)
        if keys is self.keys or not state["position"]:
            self._begin(state["epoch"])
            self._now = replace(self._next, number=state["epoch"], position=state["position"])
            return
        order = replace(self.order, length=len(keys))
        gone = keys - self.keys
        places = np.sort(order.places(state["epoch"], keys.positions(gone.take(np.arange(len(gone))))))
        self._read = keys
        self._now = replace(self._next, order=order, number=state["epoch"], position=state["position"], gone=places)

    def _begin(self, epoch: int) -> None:
        self._read = self.keys
        self._now = replace(self._next, number=epoch, position=0)
