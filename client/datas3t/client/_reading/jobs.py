"""Archives that are cut into pieces, each fetched by one request and verified at once: arithmetic only."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from datas3t.archive import index, reads
from datas3t.archive.index import BLOCK
from datas3t.client._reading.listed import Listed
from datas3t.client._reading.locations import Locations

RUN = 4 << 20  # bytes that are fetched and checked together


@dataclass(frozen=True, slots=True)
class Job:
    """Bytes that are fetched by one request.

    Attributes:
        datarange: The datarange.
        start: Their first one in the archive.
        stop: The byte after the last one.
        entries: The entries that they are; None for bytes of the end marker.
        is_part: Whether they are only the headers of a large entry, or a part of its content and padding.
        is_last: Whether they are the last ones of the archive.
        problem: What is wrong with the index, so that nothing can be compared.
    """

    datarange: Listed
    start: int
    stop: int
    entries: Locations | None = None
    is_part: bool = False
    is_last: bool = False
    problem: str = ""


def runs(entries: Locations) -> Iterator[Locations]:
    """Yield the entries in runs of a few MiB, and a larger one alone."""
    cut = reads.plan(entries.archives, entries.starts, entries.stops, BLOCK, RUN)
    for at, stop in pairwise(cut.bounds.tolist()):
        yield entries.part(at, stop)


def parts(datarange: Listed, run: Locations) -> Iterator[Job]:
    """Yield the job of a run; of a large entry that of its headers, and those of the parts of its content."""
    start, content, stop = int(run.starts[0]), int(run.contents[0]), index.padded(int(run.stops[-1]))
    if len(run.keys) > 1 or stop - start <= RUN:
        yield Job(datarange, start, stop, run)
        return
    yield Job(datarange, start, content, run, is_part=True)
    for at in range(content, stop, RUN):
        yield Job(datarange, at, min(at + RUN, stop), run, is_part=True)


def ends(datarange: Listed) -> Iterator[Job]:
    """Yield the jobs of the end marker and what follows it."""
    for at in range(datarange.entries_end, datarange.size, RUN):
        stop = min(at + RUN, datarange.size)
        yield Job(datarange, at, stop, is_last=stop == datarange.size)
