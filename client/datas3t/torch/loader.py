"""Loader: a loader of PyTorch that knows which batches it has yielded, and resumes behind the last one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch.utils.data

from datas3t.client import InvalidArgument, KeySet
from datas3t.torch.datapoints import Datapoints, Key
from datas3t.torch.sampler import BatchSampler
from datas3t.torch.steps import StreamSteps
from datas3t.torch.stream import Stream
from datas3t.training.epoch import Uneven
from datas3t.training.order import Shuffle
from datas3t.training.state import OnChange, State

T = TypeVar("T")

_OF_STREAM = "seed, shuffle, block, window, rank, world_size and uneven are arguments of the Stream; give them there"


class Loader(torch.utils.data.DataLoader[T]):
    """A `DataLoader` with an exact order, and a state that is free of the number of workers and ranks.

    Each iteration is an epoch with an order of its own, also without `set_epoch`: the first one from where the run is,
    the next one from the start of the next epoch, also if the one before was left early. In each step, all ranks
    together read the next `batch_size * world_size` samples of the order. So a run continues at the very next sample
    on other numbers of machines and workers; with the same product it reads the same batches.

    With a `Stream`, ranks and workers read shares of the epoch instead: faster, and each sample once as well, but the
    batches are others with other numbers of ranks or workers.

    Example:
        >>> loader = Loader(Datapoints(photos, transform=decode), 256, seed=7, num_workers=4)
        >>> loader.load_state_dict(json.loads(saved))
        >>> for epoch in range(loader.epoch, 10):
        ...     for batch in loader:
        ...         learn(batch)
        ...         saved = json.dumps(loader.state_dict())

    Args:
        dataset: The samples.
        batch_size: How many samples this rank reads in a step.
        seed: See `BatchSampler`, also for the others that it takes. A `Stream` has them itself.
        shuffle: See `BatchSampler`.
        block: See `BatchSampler`.
        window: See `BatchSampler`.
        rank: See `BatchSampler`.
        world_size: See `BatchSampler`.
        uneven: See `BatchSampler`.
        options: For `DataLoader`: `num_workers`, `collate_fn`, `multiprocessing_context` and so on. If there is no
            `collate_fn`, it is PyTorch's without the samples that are None because they are missing.

    Raises:
        InvalidArgument: One of them is out of its range.
    """

    def __init__(
        self,
        dataset: Datapoints[Any] | Stream[Any],
        batch_size: int = 1,
        *,
        seed: int | None = None,
        shuffle: Shuffle | None = None,
        block: int | None = None,
        window: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven | None = None,
        **options: Any,
    ) -> None:
        given: dict[str, Any] = {"seed": seed, "shuffle": shuffle, "block": block, "window": window}
        given |= {"rank": rank, "world_size": world_size, "uneven": uneven}
        given = {name: value for name, value in given.items() if value is not None}
        options.setdefault("collate_fn", collate)
        self._steps: BatchSampler | StreamSteps
        if isinstance(dataset, Stream):
            if given:
                raise InvalidArgument(_OF_STREAM)
            self._steps = StreamSteps(
                dataset, batch_size, options.get("num_workers", 0), drop_last=options.get("drop_last", False)
            )
            super().__init__(dataset, batch_size, **options)
        elif isinstance(dataset, Datapoints):
            self._steps = BatchSampler(dataset, batch_size, **given)
            super().__init__(dataset, batch_sampler=_Yielded(self._steps), **options)
        else:
            raise InvalidArgument("a Loader reads Datapoints or a Stream; use PyTorch's DataLoader for other datasets")

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0 on."""
        return self._steps.epoch

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._steps)

    def __iter__(self) -> Iterator[T]:
        rest = self._steps.begin()
        if isinstance(self._steps, StreamSteps) and self._steps.has_jumped:
            self._iterator = None  # ends workers that persist; new ones get a copy of the stream as it is now
        for yielded, batch in enumerate(super().__iter__(), 1):
            self._steps.note(rest, yielded)  # type: ignore[arg-type]
            yield batch
        self._steps.finish(rest)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration read this epoch. If it is the current one, it begins where a loaded state says."""
        self._steps.set_epoch(epoch)

    def state_dict(self) -> State:
        """Return where the run is, as an object for JSON of less than 200 bytes (without blanks).

        It counts the batches that were yielded, not those that workers have read ahead. It is the same for all ranks.
        """
        return self._steps.state_dict()

    def load_state_dict(
        self, state: Mapping[str, Any], *, on_change: OnChange = "raise", before: KeySet | None = None
    ) -> None:
        """Have the next iteration begin behind the last batch of a state, on any number of workers and ranks.

        Args:
            state: What `state_dict` returned.
            on_change: What to do if keys came or went since; see `Batches.load_state_dict`. A stream raises.
            before: The keys with which the state was saved; see there.

        Raises:
            FailedPrecondition: The keys have changed.
            InvalidArgument: It is not a state, or one of a run with another seed or shuffle.
        """
        self._steps.load_state_dict(state, on_change=on_change, before=before)


class _Yielded(torch.utils.data.Sampler[list[Key]]):
    """The batches of the iteration that has begun, which a loader takes ahead of those that it yields."""

    def __init__(self, steps: BatchSampler) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Key]]:
        return self._steps.keys_of(self._steps.rest)


def collate(samples: Sequence[Any]) -> Any:
    """Return samples as one batch, as PyTorch does, without those that are missing. Contents stay a list of bytes."""
    existing = [sample for sample in samples if sample is not None]
    return torch.utils.data.default_collate(existing) if existing else []
