"""Which batches of a stream a loader has yielded, whichever of its workers read them."""

from collections.abc import Mapping
from typing import Any

from datas3t.client import InvalidArgument, KeySet
from datas3t.torch.stream import Stream
from datas3t.training import shares
from datas3t.training.shares import Stage
from datas3t.training.state import State


class StreamSteps:
    """Which batches of a stream a loader yields. It has the methods of `BatchSampler`.

    Args:
        stream: The stream.
        batch_size: How many samples a batch has.
        workers: How many workers the loader has.
        drop_last: Whether each worker leaves out its last batch if that is smaller.
    """

    def __init__(self, stream: Stream[Any], batch_size: int, workers: int, *, drop_last: bool) -> None:
        self._stream, self._batch_size, self._workers = stream, batch_size, max(workers, 1)
        self._drop_last = drop_last
        self._rest: tuple[int, tuple[Stage, ...]] | None = None
        self._taken = 0
        self._last: int | None = None  # the epoch that has begun last
        self.has_jumped = False

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0 on."""
        return self._stream.epoch

    def __len__(self) -> int:
        rank, world_size = self._stream.place
        readers = range(rank * self._workers, (rank + 1) * self._workers)
        sizes = [shares.count(self._stream.share((), each, world_size * self._workers)) for each in readers]
        return sum(size // self._batch_size if self._drop_last else -(-size // self._batch_size) for size in sizes)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration read this epoch."""
        self._stream.set_epoch(epoch)
        self._rest, self._taken = None, 0

    def state_dict(self) -> State:
        """Return where the run is."""
        epoch, done = self._rest or (self._stream.epoch, self._stream.done)
        if self._taken:
            done = self._extended(done)
        return self._stream.saved(epoch, done)

    def load_state_dict(self, state: Mapping[str, Any], *, on_change: str, before: KeySet | None) -> None:
        """Have the next iteration begin behind the last batch of a state."""
        if on_change != "raise" or before is not None:
            raise InvalidArgument("a stream continues only with the keys of its run; give them to it as `keys`")
        self._stream.resume(*self._stream.loaded(state))
        self._rest, self._taken = None, 0

    def begin(self) -> tuple[int, tuple[Stage, ...]]:
        """Return what an iteration that begins now reads, and note whether workers that persist know it.

        They go on to the next epoch by themselves, and know of no other place.
        """
        if self._rest is not None:
            self.set_epoch(self.epoch + 1)
        self._rest = self._stream.epoch, self._stream.done
        self.has_jumped = self._last is None or self._rest != (self._last + 1, ())
        self._last = self.epoch
        return self._rest

    def note(self, rest: tuple[int, tuple[Stage, ...]], taken: int) -> None:
        """Note how many batches an iteration has yielded."""
        if self._rest is rest:
            self._taken = taken

    def finish(self, rest: tuple[int, tuple[Stage, ...]]) -> None:
        """Go on to the next epoch after an iteration."""
        if self._rest is rest:
            self.set_epoch(self.epoch + 1)

    def _extended(self, done: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return what has been read with the batches of this iteration."""
        now = Stage(self._stream.place[1], self._workers, self._batch_size, self._taken)
        return (*done, now)
