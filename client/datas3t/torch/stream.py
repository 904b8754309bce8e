"""Stream: a dataset of PyTorch that is read in key order, window by window, and mixed in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch.utils.data
from numpy.typing import NDArray

from datas3t.client import FailedPrecondition, InvalidArgument, KeySet
from datas3t.torch.sampler import checked_place, process_group
from datas3t.training import Order, Windows, shares
from datas3t.training import state as states
from datas3t.training.permutation import checked_word
from datas3t.training.samples import Sample, Samples, Source
from datas3t.training.shares import Interval, Stage
from datas3t.training.state import State

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_BLOCKS = 64  # in a window; with the default memory, a block is a request or more of a scan
_SIZES = 32  # places of the keys at which sizes are looked up, and how many at each
_UNSHUFFLED = 1024  # samples that are taken together without a shuffle


class Stream(torch.utils.data.IterableDataset[T_co], Generic[T_co]):
    """An iterable dataset of PyTorch: the samples of a datas3t in windows, each read in key order and mixed in memory.

    It takes a fifth of the computing time that `Datapoints` takes for small samples, and long requests to S3. A window
    consists of blocks of neighbours from anywhere, so samples are mixed nearly as well as by a shuffle of all.

    Ranks, and the workers of each, read equal shares of each epoch. `Loader` counts what they have read and resumes on
    any number of ranks and workers; torchdata's `StatefulDataLoader` on the same number. With another loader, call
    `set_epoch` before each epoch, as its workers get a copy of the stream.

    Which keys there are is asked at once, and stays.

    Example:
        >>> loader = Loader(Stream(client.datas3t("photos"), transform=decode), 256, num_workers=4)

    Args:
        source: A datas3t, several by name, or a `Joined`; see `Datapoints`.
        keys: The keys of the samples; all that there are if it is None.
        transform: What to return of a sample.
        seed: Another seed gives another order.
        shuffle: "window", or "none" for the order of the keys.
        memory: How many bytes of contents a window has, by the mean size of the samples. Each worker holds one window,
            of which the part that was used is replaced by the next one.
        block: How many neighbours are read together. If it is None, it follows from `memory`.
        window: How many blocks are mixed with each other.
        rank: See `BatchSampler`.
        world_size: See `BatchSampler`.
        uneven: "drop" leaves out samples that are too few for one more of each reader, in each epoch others. "keep"
            reads each sample exactly once, so a reader may have one more than others.

    Raises:
        InvalidArgument: One of them is out of its range, or a key has no sample.
        NotFound: The datas3t does not exist.
    """

    @overload
    def __init__(
        self: "Stream[Any]",
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: None = None,
        seed: int = 0,
        shuffle: Literal["window", "none"] = "window",
        memory: int = 256 << 20,
        block: int | None = None,
        window: int = _BLOCKS,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Literal["drop", "keep"] = "drop",
    ) -> None: ...

    @overload
    def __init__(
        self,
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: Callable[[Any], T_co],
        seed: int = 0,
        shuffle: Literal["window", "none"] = "window",
        memory: int = 256 << 20,
        block: int | None = None,
        window: int = _BLOCKS,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Literal["drop", "keep"] = "drop",
    ) -> None: ...

    def __init__(
        self,
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: Callable[[Any], T_co] | None = None,
        seed: int = 0,
        shuffle: Literal["window", "none"] = "window",
        memory: int = 256 << 20,
        block: int | None = None,
        window: int = _BLOCKS,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Literal["drop", "keep"] = "drop",
    ) -> None:
        if shuffle not in ("window", "none"):
            raise InvalidArgument(f"shuffle must be 'window' or 'none', but is {shuffle!r}; Loader shuffles globally")
        if uneven not in ("drop", "keep"):
            raise InvalidArgument(f"uneven must be 'drop' or 'keep', but is {uneven!r}")
        if memory < 1:
            raise InvalidArgument(f"memory must be at least 1, but is {memory}")
        self._place = checked_place(rank, world_size)
        self._samples = Samples(source, keys)
        self._transform = transform
        if block is None:
            block = _block(self._samples, memory, window) if shuffle == "window" else 1
        self.order = Order(len(self.keys), seed, shuffle, block, window)
        self.uneven = uneven
        self.epoch = 0
        self.done: tuple[Stage, ...] = ()
        self._begun = False

    @property
    def keys(self) -> KeySet:
        """The keys of the samples."""
        return self._samples.keys

    @property
    def place(self) -> tuple[int, int]:
        """The number of this rank and the world size."""
        return self._place or process_group()

    def __repr__(self) -> str:
        return f"Stream({self._samples.name!r}, {len(self.keys)} samples)"

    def __iter__(self) -> "StreamIterator[T_co]":
        """Return an iterator of this worker's share of the epoch: from where the run is, then of the next epoch."""
        return StreamIterator(self)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration read this epoch. If it is the current one, it begins where a loaded state says."""
        if checked_word(epoch) != self.epoch:
            self.done = ()
        self.epoch, self._begun = epoch, False

    def begin(self) -> tuple[int, tuple[Stage, ...]]:
        """Return the epoch that an iteration that begins now reads, and what has been read of it."""
        if self._begun:
            self.set_epoch(self.epoch + 1)
        self._begun = True
        return self.epoch, self.done

    def resume(self, epoch: int, done: Sequence[Stage]) -> None:
        """Have the next iteration read an epoch of which some has been read."""
        self.epoch, self.done, self._begun = epoch, tuple(done), False

    def saved(self, epoch: int, done: Sequence[Stage]) -> State:
        """Return a state: an object for JSON."""
        state = states.saved(self.keys, self.keys, self.order, epoch, 0)
        stages = [[each.world_size, each.workers, each.batch_size, each.steps] for each in done]
        return {name: value for name, value in state.items() if name != "position"} | {"done": stages}

    def loaded(self, state: Mapping[str, Any]) -> tuple[int, list[Stage]]:
        """Return the epoch of a state, and what has been read of it.

        Raises:
            FailedPrecondition: It was saved with other keys.
            InvalidArgument: It is not the state of a stream, or one with another seed or shuffle.
        """
        try:
            done = [Stage(*each) for each in state["done"]]
        except (KeyError, TypeError):
            raise InvalidArgument("this is not the state of a Stream; pass what its loader's state_dict gave") from None
        states.check_settings({**state, "position": 0}, self.order)
        if state["keys"] != self.keys.digest:
            raise FailedPrecondition(
                f"the state was saved with other keys, {state['order']['length']} then and {len(self.keys)} now; give"
                " the keys of the run as `keys`, a KeySet, or start from the first epoch"
            )
        return state["epoch"], done

    def share(self, done: Sequence[Stage], reader: int, readers: int) -> list[Interval]:
        """Return which places a reader reads of what is left of an epoch."""
        places = shares.left(self.order.length, done, self.uneven)
        return shares.cut(places, readers, self.uneven)[0][reader]

    def samples(self, epoch: int, places: Sequence[Interval]) -> Iterator[T_co]:
        """Yield the samples at these places of an epoch."""
        mixed = self._mixed(self._parts(epoch, places))
        return mixed if self._transform is None else map(self._transform, mixed)  # type: ignore[return-value]

    def _parts(self, epoch: int, places: Sequence[Interval]) -> Iterator[NDArray[np.int64]]:
        """Yield the keys at places in the order of the epoch, those of a window at once."""
        for start, stop in places:
            for first, last in self._bounds(epoch, start, stop):
                yield self.keys.take(self.order.take(epoch, first, last))

    def _bounds(self, epoch: int, start: int, stop: int) -> Iterator[Interval]:
        """Cut places where windows end."""
        if self.order.shuffle == "none":
            for first in range(start, stop, _UNSHUFFLED):
                yield first, min(first + _UNSHUFFLED, stop)
            return
        windows = Windows(self.order, epoch)
        number = windows.number(start)
        while start < stop:
            end = min(windows.bounds(number)[1], stop)
            yield start, end
            start, number = end, number + 1

    def _mixed(self, parts: Iterator[NDArray[np.int64]]) -> Iterator[Sample]:
        """Yield the samples of each part in its order. While those of one are used, those of the next are read."""
        now = _Window(self._samples, next(parts, _NO_KEYS))
        while len(now):
            coming = _Window(self._samples, next(parts, _NO_KEYS))
            for number, sample in enumerate(now.take(), 1):
                coming.fill(len(coming) * number // len(now))
                yield sample
            now = coming


class _Window:
    """The samples of some keys, in their order, which are read in the order of the keys.

    Args:
        samples: Reads them.
        keys: The keys.
    """

    def __init__(self, samples: Samples, keys: NDArray[np.int64]) -> None:
        by_key = np.argsort(keys)
        self._places = iter(by_key.tolist())
        self._samples: list[Sample | None] = [None] * len(keys)
        self._scan = samples.scan(KeySet(keys[by_key])) if len(keys) else iter(())
        self._filled = 0

    def __len__(self) -> int:
        return len(self._samples)

    def fill(self, number: int) -> None:
        """Read up to this number of samples."""
        for place, sample in zip(islice(self._places, number - self._filled), self._scan, strict=False):
            self._samples[place] = sample
        self._filled = number

    def take(self) -> Iterator[Sample]:
        """Yield all samples; the window lets go of each."""
        self.fill(len(self))
        for place, sample in enumerate(self._samples):
            assert sample is not None
            self._samples[place] = None
            yield sample


_NO_KEYS = np.empty(0, np.int64)


class StreamIterator(Generic[T_co]):
    """The share of one reader of an epoch, with a state that `StatefulDataLoader` finds."""

    def __init__(self, stream: Stream[T_co]) -> None:
        self._stream = stream
        self._samples: Iterator[T_co] | None = None
        self._epoch, self._done, self._skipped, self._yielded = stream.epoch, stream.done, 0, 0

    def __iter__(self) -> "StreamIterator[T_co]":
        return self

    def __next__(self) -> T_co:
        if self._samples is None:
            self._begin()
            assert self._samples is not None
        sample = next(self._samples)
        self._yielded += 1
        return sample

    def state_dict(self) -> State:
        """Return where this reader is."""
        return self._stream.saved(self._epoch, self._done) | {"reader": self._reader(), "read": self._yielded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a reader was.

        Raises:
            InvalidArgument: It was another reader, or one of another number of them.
        """
        epoch, done = self._stream.loaded(state)
        if list(state.get("reader", ())) != self._reader():
            raise InvalidArgument(
                f"the state is that of reader {state.get('reader')}, and this one is {self._reader()}: resume with as"
                " many ranks and workers, or use datas3t.torch.Loader, which takes any number"
            )
        self._stream.resume(epoch, done)
        self._epoch, self._done, self._skipped, self._samples = epoch, tuple(done), int(state["read"]), None
        self._yielded = self._skipped

    def _begin(self) -> None:
        self._epoch, self._done = self._stream.begin()
        places = shares.without(self._stream.share(self._done, *self._reader()), self._skipped)
        self._samples = self._stream.samples(self._epoch, places)

    def _reader(self) -> list[int]:
        """Return the number of this reader, and how many there are."""
        rank, world_size = self._stream.place
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return [rank, world_size]
        return [rank * worker.num_workers + worker.id, world_size * worker.num_workers]


def _block(samples: Samples, memory: int, window: int) -> int:
    """Return how many samples a block has, so that a window has this many bytes, by some of the sizes."""
    count = len(samples)
    starts = np.unique(np.linspace(0, max(count - _SIZES, 0), _SIZES).astype(np.int64))
    places = np.unique((starts[:, None] + np.arange(_SIZES)).reshape(-1))
    keys = samples.keys.take(places[places < count]).tolist()
    mean = samples.sizes(keys) / len(keys) if keys else 0.0
    return int(min(max(memory / window / max(mean, 1.0), 1), 1 << 31))
