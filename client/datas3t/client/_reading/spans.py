"""A span of keys cut into spans of about as many bytes, for readers side by side."""

from bisect import bisect_right
from itertools import accumulate, pairwise

from datas3t.client._reading.catalogue import Catalogue


def split(catalogue: Catalogue, first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """At most so many spans, first and last keys, that together hold what the catalogue has from `first` to `last`.

    All datapoints of a datarange count as equally large.
    """
    spans = [(max(each.first, first), min(each.last, last), each) for each in catalogue.within(first, last)]
    if not spans:
        return []
    parts = min(parts, sum(stop - start + 1 for start, stop, _ in spans))
    sizes = [each.entries_end * (stop - start + 1) / each.count for start, stop, each in spans]
    ends = list(accumulate(sizes))
    starts = [*(start for start, _, _ in spans), spans[-1][1] + 1]

    def key_at(size: float) -> int:
        """The first key that is there behind so many bytes; behind all of them the end."""
        at = min(bisect_right(ends, size), len(spans) - 1)
        start, stop, each = spans[at]
        key = start + round((size - ends[at] + sizes[at]) / (each.entries_end / each.count))
        return key if key <= stop else starts[at + 1]

    cuts = sorted({starts[0], *(key_at(ends[-1] * n / parts) for n in range(1, parts)), starts[-1]})
    return [(start, stop - 1) for start, stop in pairwise(cuts)]
