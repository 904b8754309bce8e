"""The choice among overlapping archives: an import takes those that hold the most keys, in the fewest archives."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Span(Protocol):
    """An archive's first and last key, both inclusive, and its upload counter."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def counter(self) -> int: ...


S = TypeVar("S", bound=Span)


def best_cover(spans: Sequence[S]) -> list[S]:
    """Return spans that do not overlap, in key order: with the most keys, the fewest spans, the highest counters.

    The three are compared in this order; counters are added up. So an aggregate is preferred to its sources. The result
    does not depend on the order of `spans`.
    """
    ordered = sorted(spans, key=lambda span: (span.last, span.first, span.counter))
    lasts = [span.last for span in ordered]

    # Weighted interval scheduling: best[n] is the best choice among the first n spans.
    best = [(0, 0, 0)]  # keys, the number of spans as a negative number, the sum of the counters
    for number, span in enumerate(ordered):
        keys, fewer, counters = best[bisect_left(lasts, span.first, hi=number)]
        best.append(max(best[number], (keys + span.last - span.first + 1, fewer - 1, counters + span.counter)))

    # Walk back from the best choice among all spans to the spans that it consists of.
    chosen = []
    number = len(ordered)
    while number:
        if best[number] == best[number - 1]:
            number -= 1
            continue
        chosen.append(ordered[number - 1])
        number = bisect_left(lasts, ordered[number - 1].first, hi=number - 1)
    return chosen[::-1]


def find_overlapping(spans: Sequence[S], span: Span) -> S | None:
    """Return one of the spans that has a key in common with `span`; they are in key order and do not overlap."""
    at = bisect_left(spans, span.first, key=lambda each: each.last)
    return spans[at] if at < len(spans) and spans[at].first <= span.last else None
