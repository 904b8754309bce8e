"""KeySet: an immutable set of keys, as spans. It takes 16 bytes for each span, however many keys that has."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index as integer
from typing import Protocol, Self, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyroaring import BitMap64

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.spans import spans_of_bitmap
from datas3t.client.errors import DatapointNotFound, InvalidArgument

Keys: TypeAlias = NDArray[np.int64]
Other: TypeAlias = "KeySet | BitMap64"
_Mask: TypeAlias = NDArray[np.bool_]

_MIXED = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # the multipliers of SplitMix64, which make a hash of a key
_STEP = 0x9E3779B97F4A7C15
_SPLIT_AT_ONCE = 1 << 20  # keys that are hashed at a time


class HasKeys(Protocol):
    """What has a bitmap of its keys, such as the handle `Datas3t`."""

    @property
    def keys(self) -> BitMap64:
        """All keys."""
        ...


class KeySet(Sequence[int]):
    """An immutable set of keys in ascending order, such as the datapoints that a training run uses.

    It behaves as a sequence of its keys: `len`, iteration, `in`, `keyset[position]`; a slice of step 1 is a KeySet
    again. Sets are equal, and have the same hash and digest, if they have the same keys. A set pickles in 16 bytes for
    each span of keys without a gap.

    Example:
        >>> cats = photos.glob("cats/**/*.jpg")
        >>> train, test = cats.split([0.9, 0.1], seed=1)
        >>> for contents in photos.batches(train.take(order) for order in orders):
        ...     learn(contents)

    Args:
        keys: The keys, in any order; those that repeat count once.

    Raises:
        InvalidArgument: One of them is not a key, 0 to 2^63-1.
    """

    __slots__ = ("_ends", "_firsts", "_lasts")

    _firsts: Keys
    _lasts: Keys
    _ends: Keys  # how many keys there are up to the end of each span

    def __init__(self, keys: Iterable[int] | Keys = ()) -> None:
        ordered = np.unique(_checked(keys))
        cuts = np.flatnonzero(np.diff(ordered) != 1) + 1 if len(ordered) else np.empty(0, np.int64)
        self._set(
            ordered[np.concatenate(([0], cuts))] if len(ordered) else ordered,
            ordered[np.append(cuts - 1, -1)] if len(ordered) else ordered,
        )

    @classmethod
    def of(cls, keys: "Iterable[tuple[int, int]] | BitMap64 | HasKeys") -> Self:
        """Return the set of the keys in spans, in a bitmap, or of all datapoints of a datas3t.

        Args:
            keys: Pairs of the first and the last key of a span, in any order, which may overlap; a bitmap; or a handle.

        Raises:
            InvalidArgument: A span ends before it begins, or reaches beyond 0 to 2^63-1.
        """
        if isinstance(keys, BitMap64):
            return cls._of_arrays(*spans_of_bitmap(keys))
        if not isinstance(keys, Iterable):  # a handle
            return cls._of_arrays(*spans_of_bitmap(keys.keys))
        pairs = [(integer(first), integer(last)) for first, last in keys]
        for first, last in pairs:
            if not 0 <= first <= last <= MAX_KEY:
                raise InvalidArgument(f"{first} to {last} is not a span of keys: they are 0 to 2^63-1, in this order")
        bounds = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        return cls._of_arrays(*_joined(bounds[:, 0], bounds[:, 1]))

    @classmethod
    def _of_arrays(cls, firsts: Keys, lasts: Keys) -> Self:
        """Return the set of ascending spans, between any two of which is a gap."""
        new = cls.__new__(cls)
        new._set(firsts, lasts)
        return new

    def _set(self, firsts: Keys, lasts: Keys) -> None:
        # Sums are of uint64 where they could reach 2^63, the number of all keys; a length above that is refused.
        ends = np.cumsum(lasts - firsts + 1, dtype=np.int64)
        if len(ends) and ends[-1] < 0:
            raise InvalidArgument("a set of all 2^63 keys is too large; leave one out")
        self._firsts, self._lasts, self._ends = firsts, lasts, ends
        for each in (firsts, lasts, ends):
            each.flags.writeable = False

    def __reduce__(self) -> tuple[object, tuple[bytes, bytes]]:
        return _unpickled, (self._firsts.astype("<i8").tobytes(), self._lasts.astype("<i8").tobytes())

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The first and the last key of each run of keys without a gap, ascending."""
        return list(zip(self._firsts.tolist(), self._lasts.tolist(), strict=True))

    @property
    def bounds(self) -> tuple[Keys, Keys]:
        """The first keys and the last keys of the spans, as arrays that cannot be changed."""
        return self._firsts, self._lasts

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that are the same for the same keys: to note what a model was trained on."""
        raw = np.stack((self._firsts, self._lasts), axis=1).astype("<i8").tobytes()
        return hashlib.sha256(raw).hexdigest()[:32]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __bool__(self) -> bool:
        return bool(len(self._ends))

    def __iter__(self) -> Iterator[int]:
        for first, last in zip(self._firsts.tolist(), self._lasts.tolist(), strict=True):
            yield from range(first, last + 1)

    def __reversed__(self) -> Iterator[int]:
        for first, last in zip(self._firsts[::-1].tolist(), self._lasts[::-1].tolist(), strict=True):
            yield from range(last, first - 1, -1)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, SupportsIndex) or not 0 <= (wanted := integer(key)) <= MAX_KEY:
            return False
        at = int(np.searchsorted(self._firsts, wanted, "right")) - 1
        return at >= 0 and wanted <= int(self._lasts[at])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeySet):
            return NotImplemented
        return np.array_equal(self._firsts, other._firsts) and np.array_equal(self._lasts, other._lasts)

    def __hash__(self) -> int:
        return hash((self._firsts.tobytes(), self._lasts.tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in self.spans[:3])
        return f"KeySet({shown}{', ...' if len(self._firsts) > 3 else ''}; {len(self)} keys)"

    @overload
    def __getitem__(self, position: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, position: slice) -> "KeySet": ...

    def __getitem__(self, position: SupportsIndex | slice) -> "int | KeySet":
        if not isinstance(position, slice):
            return int(self.take(np.array([integer(position)]))[0])
        start, stop, step = position.indices(len(self))
        if step != 1:
            return KeySet(self.take(np.arange(start, stop, step)))
        if start >= stop:
            return KeySet()
        one, other = np.searchsorted(self._ends, (start, stop - 1), "right").tolist()
        firsts, lasts = self._firsts[one : other + 1].copy(), self._lasts[one : other + 1].copy()
        firsts[0], lasts[-1] = self[start], self[stop - 1]
        return self._of_arrays(firsts, lasts)

    def take(self, positions: ArrayLike) -> Keys:
        """Return the keys at these positions, from 0 on; negative ones count from the end.

        Raises:
            IndexError: A position is outside of the set.
        """
        wanted = np.asarray(positions, np.int64)
        count = len(self)
        outside = (wanted < -count) | (wanted >= count)
        if outside.any():
            raise IndexError(f"position {wanted[outside].flat[0]} is outside of a set of {count} keys")
        wanted = np.where(wanted < 0, wanted + count, wanted)
        spans = np.searchsorted(self._ends, wanted, "right")
        keys: Keys = self._lasts[spans] - (self._ends[spans] - 1 - wanted)
        return keys

    def positions(self, keys: ArrayLike) -> Keys:
        """Return the positions of these keys, from 0 on.

        Raises:
            DatapointNotFound: A key is not in the set; the error, a KeyError, names the first one.
        """
        wanted = np.asarray(keys, np.int64)
        spans = np.searchsorted(self._firsts, wanted, "right") - 1
        missing = ~self.mask(wanted)
        if missing.any():
            key = int(wanted[missing].flat[0])
            raise DatapointNotFound(f"the set has no key {key}", key=key)
        found: Keys = self._ends[spans] - 1 - (self._lasts[spans] - wanted)
        return found

    def mask(self, keys: ArrayLike) -> NDArray[np.bool_]:
        """Return for each of these keys whether it is in the set."""
        wanted = np.asarray(keys, np.int64)
        if not len(self._firsts):
            return np.zeros(wanted.shape, np.bool_)
        spans = np.searchsorted(self._firsts, wanted, "right") - 1
        inside: NDArray[np.bool_] = (spans >= 0) & (wanted <= self._lasts[np.maximum(spans, 0)])
        return inside

    def within(self, first: int, last: int) -> "KeySet":
        """Return the keys of the set from `first` to `last`, both included."""
        first, last = max(first, 0), min(last, MAX_KEY)
        at, stop = int(np.searchsorted(self._lasts, first)), int(np.searchsorted(self._firsts, last, "right"))
        if first > last or at >= stop:
            return KeySet()
        firsts, lasts = self._firsts[at:stop].copy(), self._lasts[at:stop].copy()
        firsts[0], lasts[-1] = max(int(firsts[0]), first), min(int(lasts[-1]), last)
        return self._of_arrays(firsts, lasts)

    def __and__(self, other: Other) -> "KeySet":
        return self._combined(other, lambda mine, its: mine & its)

    def __or__(self, other: Other) -> "KeySet":
        return self._combined(other, lambda mine, its: mine | its)

    def __sub__(self, other: Other) -> "KeySet":
        return self._combined(other, lambda mine, its: mine & ~its)

    def __xor__(self, other: Other) -> "KeySet":
        return self._combined(other, lambda mine, its: mine ^ its)

    def split(self, fractions: Sequence[float], *, seed: int) -> "list[KeySet]":
        """Split the set into parts by a hash of each key.

        A key comes into the same part whatever other keys there are, so a dataset may grow without a key that moves
        from one part to another.

        Args:
            fractions: The share of each part; together at most 1.
            seed: Another seed gives other parts.

        Returns:
            A set for each fraction, of about this share of the keys.

        Raises:
            InvalidArgument: A fraction is negative, or they are more than 1 together.

        Example:
            >>> train, test = photos.glob("**").split([0.9, 0.1], seed=1)
        """
        limits = np.cumsum(np.asarray(fractions, np.float64))
        if len(limits) and (min(fractions) < 0 or limits[-1] > 1 + 1e-9):
            raise InvalidArgument(
                f"the fractions are {list(fractions)}; they must be at least 0, and at most 1 together"
            )
        parts: list[list[Keys]] = [[] for _ in fractions]
        for start in range(0, len(self), _SPLIT_AT_ONCE):
            keys = self.take(np.arange(start, min(start + _SPLIT_AT_ONCE, len(self))))
            numbers = np.searchsorted(limits, _share(keys, seed), "right")
            for number, part in enumerate(parts):
                part.append(keys[numbers == number])
        return [KeySet(np.concatenate(part) if part else ()) for part in parts]

    def _combined(self, other: Other, keep: Callable[[_Mask, _Mask], _Mask]) -> "KeySet":
        """Return the keys for which `keep` says so, given whether they are in this set and in the other one."""
        if isinstance(other, BitMap64):
            other = KeySet.of(other)
        if not isinstance(other, KeySet):
            return NotImplemented
        # Between two neighbouring edges, membership in both sets is the same. An edge is where a span begins, or the
        # key after its end, which may be 2^63.
        edges = np.unique(np.concatenate([_edges(each) for each in (self, other)]))
        if not len(edges):
            return KeySet()
        mine, its = ((np.searchsorted(_edges(each), edges, "right") % 2).astype(np.bool_) for each in (self, other))
        kept = keep(mine, its)
        before = np.concatenate(([False], kept[:-1]))
        starts, stops = edges[kept & ~before], edges[~kept & before]
        return self._of_arrays(starts.astype(np.int64), (stops - np.uint64(1)).astype(np.int64))


def _edges(keys: KeySet) -> NDArray[np.uint64]:
    """Return where spans begin and the keys after their ends, in turn."""
    firsts, lasts = (each.astype(np.uint64) for each in keys.bounds)
    return np.stack((firsts, lasts + np.uint64(1)), axis=1).reshape(-1)


def _joined(firsts: Keys, lasts: Keys) -> tuple[Keys, Keys]:
    """Return spans that are sorted by their first keys, those without a gap between them as one."""
    if not len(firsts):
        return firsts.copy(), lasts.copy()
    reached = np.maximum.accumulate(lasts)
    starts = np.concatenate(([True], firsts[1:] - 1 > reached[:-1]))
    ends = np.append(starts[1:], True)
    return firsts[starts], reached[ends]


def _checked(keys: Iterable[int] | Keys) -> Keys:
    if isinstance(keys, KeySet):
        return keys.take(np.arange(len(keys)))
    array = keys if isinstance(keys, np.ndarray) else list(map(integer, keys))
    try:
        checked = np.asarray(array, np.int64)
    except OverflowError:
        checked = np.array([-1])
    if len(checked) and checked.min() < 0:
        raise InvalidArgument("keys are whole numbers from 0 to 2^63-1; one is not")
    return checked


def _share(keys: Keys, seed: int) -> NDArray[np.float64]:
    """Return a number from 0 up to 1 for each key: SplitMix64 of key and seed, of which 53 bits count."""
    mixed = keys.astype(np.uint64)
    offset = hashlib.sha256(f"{seed}".encode()).digest()
    with np.errstate(over="ignore"):
        mixed = (mixed ^ np.uint64(int.from_bytes(offset[:8], "little"))) + np.uint64(_STEP)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIXED[0])
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIXED[1])
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _unpickled(firsts: bytes, lasts: bytes) -> KeySet:
    return KeySet._of_arrays(*(np.frombuffer(each, "<i8").astype(np.int64) for each in (firsts, lasts)))
