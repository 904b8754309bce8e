"""Which of overlapping archives an import takes: those that hold the most keys, in the fewest archives."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Span(Protocol):
    """An archive's inclusive keys and its upload counter."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def counter(self) -> int: ...


S = TypeVar("S", bound=Span)


def cover(spans: Sequence[S]) -> list[S]:
    """Those to take, in key order, of which no two overlap: the most keys, then the fewest spans, then the highest
    sum of counters. So an aggregate goes before its sources, and the order of `spans` does not matter."""
    ordered = sorted(spans, key=lambda span: (span.last, span.first, span.counter))
    lasts = [span.last for span in ordered]
    best = [(0, 0, 0)]  # of the first n: keys, spans as a negative number, counters
    for number, span in enumerate(ordered):
        keys, fewer, counters = best[bisect_left(lasts, span.first, hi=number)]
        best.append(max(best[number], (keys + span.last - span.first + 1, fewer - 1, counters + span.counter)))
    taken = []
    number = len(ordered)
    while number:
        if best[number] == best[number - 1]:
            number -= 1
            continue
        taken.append(ordered[number - 1])
        number = bisect_left(lasts, ordered[number - 1].first, hi=number - 1)
    return taken[::-1]


def overlapped(taken: Sequence[S], span: Span) -> S | None:
    """One of those taken, which are in key order and do not overlap, that has a key of the span."""
    at = bisect_left(taken, span.first, key=lambda each: each.last)
    return taken[at] if at < len(taken) and taken[at].first <= span.last else None
