"""Order: in which order an epoch reads, as a function of the place in it."""

from dataclasses import dataclass
from operator import index as integer
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from datas3t.client import InvalidArgument
from datas3t.training.permutation import Numbers, Permutation, checked_word, key_of

Shuffle: TypeAlias = Literal["global", "window", "none"]

_GLOBAL, _BLOCKS, _WINDOW = 1, 2, 3  # the first word of the key of each permutation
_MAX_LENGTH = 1 << 62  # so that no sum of two places exceeds 63 bits
_MAX_WINDOW = 1 << 31


@dataclass(frozen=True)
class Order:
    """The order in which each epoch of a training run reads `length` samples.

    The order is a function, not a list: it takes no memory, any place is computed at once, and it is the same in every
    process and on every machine. Positions are those of a KeySet: `keys.take(order.take(epoch, 0, 256))`.

    Example:
        >>> order = Order(len(keys), seed=7)
        >>> for start in range(0, len(keys), 256):
        ...     learn(photos.get_many(keys.take(order.take(epoch, start, min(start + 256, len(keys))))))

    Args:
        length: How many samples there are.
        seed: Another seed gives another order, 0 to 2^64-1.
        shuffle: "global" mixes all samples with each other. "window" reads `block` neighbours together, in random
            order of the blocks, and mixes the samples of `window` blocks with each other: S3 sees long reads, and
            memory holds one window. "none" is the order of the keys.
        block: How many neighbours "window" reads together.
        window: How many blocks "window" mixes with each other.

    Raises:
        InvalidArgument: One of them is out of its range.
    """

    length: int
    seed: int = 0
    shuffle: Shuffle = "global"
    block: int = 1024
    window: int = 512

    def __post_init__(self) -> None:
        for name in ("length", "seed", "block", "window"):
            object.__setattr__(self, name, integer(getattr(self, name)))  # an integer of numpy would not be JSON
        checked_word(self.seed)
        if not 0 <= self.length <= _MAX_LENGTH:
            raise InvalidArgument(f"length must be 0 to 2^62, but is {self.length}")
        if self.shuffle not in ("global", "window", "none"):
            raise InvalidArgument(f"shuffle must be 'global', 'window' or 'none', but is {self.shuffle!r}")
        if not (0 < self.block <= _MAX_WINDOW and 0 < self.window <= _MAX_WINDOW):
            raise InvalidArgument(f"block and window must be 1 to 2^31, but are {self.block} and {self.window}")

    def take(self, epoch: int, start: int, stop: int) -> Numbers:
        """Return the positions that an epoch reads at places `start` to `stop`, the latter excluded.

        This takes time and memory for `stop - start` positions, wherever they are. Of a window that is shorter than
        4,096 samples, it computes all.

        Args:
            epoch: The number of the epoch, from 0 on. Each one has an order of its own.
            start: The first place, from 0 on.
            stop: The place behind the last one.

        Raises:
            InvalidArgument: Not 0 <= start <= stop <= length.
        """
        start, stop = integer(start), integer(stop)
        if not 0 <= start <= stop <= self.length:
            raise InvalidArgument(f"places {start} to {stop} are not within an epoch of {self.length} samples")
        return self.at(epoch, np.arange(start, stop, dtype=np.int64))

    def at(self, epoch: int, places: ArrayLike) -> Numbers:
        """Return the positions that an epoch reads at these places."""
        return self._mapped(epoch, places, inverse=False)

    def places(self, epoch: int, positions: ArrayLike) -> Numbers:
        """Return the places at which an epoch reads these positions: the inverse of `at`."""
        return self._mapped(epoch, positions, inverse=True)

    def endless(self, places: ArrayLike) -> Numbers:
        """Return the positions at places that are counted on through all epochs: `length` is place 0 of epoch 1."""
        if not self.length:
            raise InvalidArgument("an order of no samples has no places")
        epochs, within = np.divmod(np.asarray(places, np.int64), self.length)
        positions = np.empty_like(within)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            positions[chosen] = self.at(epoch, within[chosen])
        return positions

    def _mapped(self, epoch: int, numbers: ArrayLike, *, inverse: bool) -> Numbers:
        epoch, given = checked_word(epoch), np.asarray(numbers, np.int64)
        flat = given.reshape(-1)
        if len(outside := flat[(flat < 0) | (flat >= self.length)]):
            raise InvalidArgument(f"{outside[0]} is not within an epoch of {self.length} samples")
        if self.shuffle == "window":
            windows = Windows(self, epoch)
            flat = windows.places(flat) if inverse else windows.positions(flat)
        elif self.shuffle == "global":
            permutation = Permutation(self.length, key_of(_GLOBAL, self.seed, epoch, 0, self.length))
            flat = permutation.places(flat) if inverse else permutation.at(flat)
        return flat.reshape(given.shape)


class Windows:
    """The windows of one epoch of an order with `shuffle="window"`.

    The blocks are permuted; each window has the next `size` of them, and the last window the rest, so that no window
    has more blocks than the order's `window`, and all but the last have the same number. The places of a window are
    permuted once more.

    Args:
        order: The order.
        epoch: The epoch.
    """

    def __init__(self, order: Order, epoch: int) -> None:
        self._order, self._epoch = order, epoch
        self._blocks = -(-order.length // order.block)
        self.count = -(-self._blocks // order.window)
        self._size = -(-self._blocks // max(self.count, 1))  # blocks in a window
        self._permuted = Permutation(self._blocks, key_of(_BLOCKS, order.seed, epoch, 0, self._blocks))
        # The last block may be short. Where it is read, all later places move forward by what it lacks.
        self._lack = self._blocks * order.block - order.length
        last = np.array([self._blocks - 1] if self._blocks else [], np.int64)
        self._short = int(self._permuted.places(last)[0]) if self._lack else self._blocks

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the first place of a window, and the place behind its last one."""
        return self._start(number * self._size), self._start((number + 1) * self._size)

    def number(self, place: int) -> int:
        """Return in which window a place is."""
        return int(self._slots(np.array([place], np.int64))[0][0]) // max(self._size, 1)

    def runs(self, number: int) -> Numbers:
        """Return the blocks of a window in the order of their keys: a row each, of its first and last position."""
        slots = np.arange(number * self._size, min((number + 1) * self._size, self._blocks), dtype=np.int64)
        firsts = np.sort(self._permuted.at(slots)) * self._order.block
        return np.stack((firsts, np.minimum(firsts + self._order.block, self._order.length) - 1), axis=1)

    def positions(self, places: Numbers) -> Numbers:
        """Return the positions at these places."""
        return self._positions_of_slots(self._within_windows(places, inverse=False))

    def places(self, positions: Numbers) -> Numbers:
        """Return the places of these positions."""
        blocks, offsets = np.divmod(positions, self._order.block)
        return self._within_windows(self._starts(self._permuted.places(blocks)) + offsets, inverse=True)

    def _within_windows(self, places: Numbers, *, inverse: bool) -> Numbers:
        """Return the places after the permutation of each window."""
        slots, _ = self._slots(places)
        windows = slots // max(self._size, 1)
        moved = np.empty_like(places)
        for number in np.unique(windows).tolist():
            start, stop = self.bounds(number)
            key = key_of(_WINDOW, self._order.seed, self._epoch, number, stop - start)
            permutation = Permutation(stop - start, key)
            chosen = windows == number
            within = places[chosen] - start
            moved[chosen] = start + (permutation.places(within) if inverse else permutation.at(within))
        return moved

    def _positions_of_slots(self, places: Numbers) -> Numbers:
        slots, offsets = self._slots(places)
        return self._permuted.at(slots) * self._order.block + offsets

    def _slots(self, places: Numbers) -> tuple[Numbers, Numbers]:
        """Return for each place which block of the epoch it is in, counted as they are read, and where within it."""
        end_of_short = self._start(self._short) + self._order.block - self._lack
        full = np.where(places >= end_of_short, places + self._lack, places) if self._lack else places
        slots, offsets = np.divmod(full, self._order.block)
        return slots, offsets

    def _start(self, slot: int) -> int:
        """Return the place at which the block in this slot starts."""
        return min(slot * self._order.block - (self._lack if slot > self._short else 0), self._order.length)

    def _starts(self, slots: Numbers) -> Numbers:
        return slots * self._order.block - np.where(slots > self._short, self._lack, 0)
