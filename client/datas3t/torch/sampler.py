"""BatchSampler: the keys of each batch for a loader of PyTorch, in an exact order that resumes anywhere."""

import os
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import torch.distributed
import torch.utils.data

from datas3t.client import InvalidArgument, KeySet
from datas3t.torch.datapoints import Datapoints, Key
from datas3t.training import Batches, Epoch
from datas3t.training.epoch import Uneven
from datas3t.training.order import Shuffle
from datas3t.training.state import OnChange, State


class BatchSampler(torch.utils.data.Sampler[list[Key]]):
    """The batches of a training run, as keys, for a loader of `Datapoints`. See `Batches`, which makes them.

    Each iteration is an epoch with an order of its own: the first one from where the run is, the next one from the
    start of the next epoch, also if the one before was left early. It takes no memory for its samples.

    `state_dict` counts the batches that were taken from it. A loader takes batches earlier than it yields them:
    `Loader` and torchdata's `StatefulDataLoader` count those that were yielded.

    Example:
        >>> sampler = BatchSampler(photos, 256, seed=7)
        >>> loader = torch.utils.data.DataLoader(photos, batch_sampler=sampler, num_workers=4)

    Args:
        keys: The keys, or the dataset that has them.
        batch_size: How many samples this rank reads in a step.
        seed: Another seed gives another order.
        shuffle: "global", "window" or "none"; see `Order`.
        block: See `Order`.
        window: See `Order`.
        rank: The number of this process. If it is None: that in torch.distributed's process group, otherwise that in
            the environment (RANK and WORLD_SIZE), otherwise 0 of 1. This is looked up at the first use. Ranks that
            shall read the same samples, for tensor parallelism, are given the same number.
        world_size: How many processes read a share of each step; given together with `rank`.
        uneven: What happens to samples that are too few for a last step: "drop", "pad" or "keep"; see `Batches`.

    Raises:
        InvalidArgument: One of them is out of its range, or only one of `rank` and `world_size` is given.
    """

    def __init__(
        self,
        keys: KeySet | Datapoints[Any],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = "global",
        block: int = 1024,
        window: int = 512,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "drop",
    ) -> None:
        keys = keys.keys if isinstance(keys, Datapoints) else keys
        self._place = checked_place(rank, world_size)
        self._make = partial(
            Batches, keys, batch_size, seed=seed, shuffle=shuffle, block=block, window=window, uneven=uneven
        )
        checked_rank, checked_size = self._place or (0, 1)
        self._make(rank=checked_rank, world_size=checked_size)  # raises for what is wrong
        self._rest: Epoch | None = None  # of the iteration that has begun last
        self._taken = 0  # its batches

    @cached_property
    def batches(self) -> Batches:
        """The batches of this rank."""
        rank, world_size = self._place or process_group()
        return self._make(rank=rank, world_size=world_size)

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0 on."""
        return self.batches.epoch

    @property
    def rest(self) -> Epoch:
        """What the iteration that has begun last reads."""
        return self._rest or self.batches.rest()

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        rest = self.begin()
        for taken, keys in enumerate(self.keys_of(rest), 1):
            self.note(rest, taken)
            yield keys
        self.finish(rest)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration read this epoch. If it is the current one, it begins where a loaded state says."""
        self.batches.set_epoch(epoch)
        self._rest, self._taken = None, 0

    def state_dict(self) -> State:
        """Return where the run is, as an object for JSON of less than 200 bytes; see `Batches.state_dict`."""
        place = None if self._rest is None else self._rest.after(self._taken)
        return self.batches.state_dict(place)

    def load_state_dict(
        self, state: Mapping[str, Any], *, on_change: OnChange = "raise", before: KeySet | None = None
    ) -> None:
        """Have the next iteration begin behind the last batch of a state; see `Batches.load_state_dict`."""
        self.batches.load_state_dict(state, on_change=on_change, before=before)
        self._rest, self._taken = None, 0

    def begin(self) -> Epoch:
        """Return what an iteration that begins now reads."""
        if self._rest is not None:
            self.set_epoch(self.epoch + 1)
        self._rest = self.batches.rest()
        return self._rest

    def keys_of(self, rest: Epoch) -> Iterator[list[Key]]:
        """Yield the keys of each batch in the rest of an epoch."""
        for step in range(rest.steps_of(self.batches.rank)):
            yield list(map(Key, self.batches.take(rest, step).tolist()))

    def note(self, rest: Epoch, taken: int) -> None:
        """Note how many batches an iteration has taken, unless another one has begun since."""
        if self._rest is rest:
            self._taken = taken

    def finish(self, rest: Epoch) -> None:
        """Go on to the next epoch after an iteration, unless another one has begun since."""
        if self._rest is rest:
            self.set_epoch(self.epoch + 1)


def checked_place(rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    """Return the rank and the world size that were given, or None if they are to be looked up.

    Raises:
        InvalidArgument: Only one was given.
    """
    if (rank is None) != (world_size is None):
        raise InvalidArgument("give both rank and world_size, or none of them")
    return None if rank is None or world_size is None else (rank, world_size)


def process_group() -> tuple[int, int]:
    """Return the rank of this process and the world size, from torch.distributed or the environment."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        raise InvalidArgument("RANK and WORLD_SIZE in the environment must be numbers; unset or mend them") from None
