"""What a handle has said about keys. It says the same until it is refreshed, whatever it has to load again."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from pyroaring import BitMap64

from datas3t.archive.names import MAX_KEY

Span = tuple[int, int]  # the first and the last key


class Spans:
    """A set of keys as spans in ascending order, between which keys are missing. Safe for readers in other threads."""

    __slots__ = ("_bounds",)

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._bounds = array("q"), array("q")  # first and last keys, which are replaced together
        for first, last in spans:
            self.replace(first, last, [(first, last)])

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self._bounds[0])

    def __contains__(self, key: int) -> bool:
        """Return whether the key is in the set."""
        firsts, lasts = self._bounds
        at = bisect_right(firsts, key) - 1
        return at >= 0 and key <= lasts[at]

    def within(self, first: int, last: int) -> list[Span]:
        """Return the spans of the keys from `first` to `last`."""
        firsts, lasts = self._bounds
        start, stop = bisect_left(lasts, first), bisect_right(firsts, last)
        spans = zip(firsts[start:stop], lasts[start:stop], strict=True)
        return [(max(one, first), min(other, last)) for one, other in spans]

    def replace(self, first: int, last: int, spans: Iterable[Span]) -> None:
        """Make `spans`, in ascending order, the keys of the set from `first` to `last`."""
        # Neighbours of the range are joined with it if no key is between them.
        firsts, lasts = self._bounds
        start, stop = bisect_left(lasts, first - 1), bisect_right(firsts, min(last, MAX_KEY - 1) + 1)
        kept = list(zip(firsts[start:stop], lasts[start:stop], strict=True))
        before = [(one, min(other, first - 1)) for one, other in kept if one < first]
        after = [(max(one, last + 1), other) for one, other in kept if other > last]
        joined = _joined((*before, *spans, *after))
        ones, others = array("q", [one for one, _ in joined]), array("q", [other for _, other in joined])
        self._bounds = firsts[:start] + ones + firsts[stop:], lasts[:start] + others + lasts[stop:]


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return ascending spans, those without a key between them as one."""
    joined: list[Span] = []
    for first, last in spans:
        if joined and joined[-1][1] + 1 >= first:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


class Known:
    """The keys about which a handle has said whether they exist, and those of them that do.

    A datapoint that is uploaded later stays hidden; one that is found to be gone stays gone.

    One thread at a time may change it, while others call `has`. A change that a signal handler or a fork cuts short
    makes no key that exists a missing one.
    """

    def __init__(self) -> None:
        self._known = Spans()
        self._present = Spans()
        self._bitmap: BitMap64 | None = None  # all keys that exist; instead of the spans

    @property
    def size(self) -> int:
        """The bytes that the spans take in memory."""
        return 16 * (len(self._known) + len(self._present))

    @property
    def bitmap(self) -> BitMap64 | None:
        """All keys that exist; None before `all_keys` or `learn_all`."""
        return self._bitmap

    def all_keys(self) -> BitMap64 | None:
        """Return all keys that exist; None if some are not known."""
        if self._bitmap is None and self._known.within(0, MAX_KEY) == [(0, MAX_KEY)]:
            keys = BitMap64()
            for first, last in self._present.within(0, MAX_KEY):
                keys.add_range(first, last + 1)
            self._bitmap = keys
            self._present = Spans()
        return self._bitmap

    def has(self, key: int) -> bool | None:
        """Return whether the key exists; None if that is not known."""
        # In this order, because another thread may be changing them, in the opposite one.
        is_known, is_present, keys = key in self._known, key in self._present, self._bitmap
        if keys is not None:
            return key in keys
        return is_present if is_known else None

    def has_any(self, first: int, last: int) -> bool:
        """Return whether something was said about a key from `first` to `last`."""
        return self._bitmap is not None or bool(self._known.within(first, last))

    def visible(self, first: int, last: int) -> list[Span]:
        """Return what may be shown of the existing keys from `first` to `last`: those not said to be missing."""
        if self._bitmap is not None:
            return list(_runs(self._bitmap, first, last))
        known = self._known.within(first, last)
        if not known:
            return [(first, last)]
        if known == [(first, last)]:
            return self._present.within(first, last)
        shown = Spans([(first, last)])
        for one, other in known:
            shown.replace(one, other, self._present.within(one, other))
        return shown.within(first, last)

    def learn(self, first: int, last: int, present: list[Span]) -> None:
        """Take note that of the keys from `first` to `last` exactly these exist, in ascending order."""
        if self._bitmap is None:
            self._present.replace(first, last, present)
            self._known.replace(first, last, [(first, last)])
        elif self._bitmap.range_cardinality(first, last + 1) != sum(stop - start + 1 for start, stop in present):
            changed = BitMap64(self._bitmap)  # a reader may be using the old one
            changed.remove_range(first, last + 1)
            for start, stop in present:
                changed.add_range(start, stop + 1)
            self._bitmap = changed

    def learn_all(self, keys: BitMap64) -> None:
        """Take note of all keys that exist, without contradicting what was said before."""
        for first, last in self._known.within(0, MAX_KEY):
            keys.remove_range(first, last + 1)
        for first, last in self._present.within(0, MAX_KEY):
            keys.add_range(first, last + 1)
        self._bitmap = keys
        self._known, self._present = Spans([(0, MAX_KEY)]), Spans()


def _runs(keys: BitMap64, first: int, last: int) -> Iterator[Span]:
    """Yield the runs of existing keys from `first` to `last`."""
    if keys.contains_range(first, last + 1):
        yield first, last
        return
    start = first
    while start <= last and keys.range_cardinality(start, last + 1):
        start = keys.next_set_bit(start)
        # Double the length of the run until it has a gap, then halve the step.
        stop, step = start, 1
        while stop + step <= last and keys.contains_range(stop, stop + step + 1):
            stop, step = stop + step, 2 * step
        while step:
            if stop + step <= last and keys.contains_range(stop, stop + step + 1):
                stop += step
            step //= 2
        yield start, stop
        start = stop + 2
