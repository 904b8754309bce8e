"""One bit at a time is flipped in an archive, an index or checksums that are in memory, and read in every way."""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from datas3t.archive import index, tar
from datas3t.client import Client, Datas3tError
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import verifying
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.fetching import Fetcher, Piece
from datas3t.client._reading.index_files import IndexFiles
from datas3t.client._reading.listed import Listed
from datas3t.client._reading.signed import Columns, Kind, SignedDatarange
from datas3t.client._reading.verifying import Verifier
from datas3t.client.handle import Datas3t
from datas3t.transport import Range
from tests.client.reading.flips import Flipped
from tests.support.tars import archive, contents

FIRST = 5  # the first key

T = TypeVar("T")
Job = TypeVar("Job")


class MemoryFetcher(Fetcher):
    """A fetcher of one datarange whose objects are in memory."""

    objects: dict[str, Flipped]

    def fetch(self, datarange: SignedDatarange, start: int, stop: int) -> bytes:
        return self.objects["tar"][start:stop]

    def fetch_large(self, datarange: SignedDatarange, start: int, stop: int) -> bytes:
        return self.objects["tar"][start:stop]

    def fetch_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        return [self.objects[piece.kind][piece.start : piece.stop] for piece in pieces]

    def fetch_each(self, ranges: Sequence[Range], take: Callable[[int, bytes], None]) -> None:
        for number, each in enumerate(ranges):
            take(number, self.objects["tar"][each.start : each.stop])

    def stream(
        self, jobs: Iterable[tuple[Job, Piece]], unpack: Callable[[Job, memoryview], Iterable[T]], *_: int
    ) -> Iterator[T]:
        for job, piece in jobs:
            yield from unpack(job, memoryview(self.objects[piece.kind][piece.start : piece.stop]))


class Sample(NamedTuple):
    """A datarange in memory, with a handle that reads it."""

    raw: bytes
    contents: list[bytes]
    columns: Columns
    objects: dict[Kind, bytes]
    handle: Datas3t
    fetcher: MemoryFetcher

    @property
    def named(self) -> list[tuple[str, bytes]]:
        """The names and the contents."""
        extension = self.columns.extension(0)
        return [(f"{key:020d}.{extension}", content) for key, content in enumerate(self.contents, FIRST)]


def samples(folder: Path) -> Iterator[Sample]:
    """Yield dataranges of a few datapoints, in all dialects, with short and with long extensions."""
    for seed, dialect in enumerate(("ustar", "gnu", "pax", "pax", "gnu")):
        extension = "jpg" if seed < 3 else "x" * 90  # in an extended header
        found = [*contents(seed, 3, 300), b""]
        raw = archive(FIRST, found, extension=extension, dialect=dialect)
        scanned = tar.scan(lambda start, stop, raw=raw: raw[start:stop], len(raw), checksums=True)  # type: ignore[misc]
        objects: dict[Kind, bytes] = {"tar": raw, "index": scanned.index, "crc32c": scanned.checksums}
        columns, now = Columns(), time.monotonic()
        urls = [f"http://127.0.0.1:9/bucket/a.{kind}" for kind in objects]
        columns.add(1, FIRST, FIRST + len(found) - 1, scanned.entries_end, urls, ["etag"] * 3)
        columns._extensions = [extension]
        handle = Client("http://127.0.0.1:9", cache_dir=folder).datas3t("flipped")
        handle._reader.catalogues._install(Catalogue(columns, Lifetime(now, math.inf, math.inf), now))
        fetcher = MemoryFetcher(handle._session, handle._reader.catalogues, Costs())
        handle._reader._fetcher = fetcher
        yield Sample(raw, found, columns, objects, handle, fetcher)


Read = Callable[[Sample], tuple[object, object]]
"""A function that returns what it has read, and what it should have read."""

READS: tuple[Read, ...] = (
    lambda sample: ([(each.name, each.content) for each in sample.handle.scan()], sample.named),
    lambda sample: ([(each.name, bytes(each.content)) for each in sample.handle.scan(copy=False)], sample.named),
    lambda sample: (sample.handle.get_many(range(FIRST, FIRST + len(sample.contents))), sample.contents),
    lambda sample: ([sample.handle.get(FIRST + n) for n in range(len(sample.contents))], sample.contents),
)


class Flips:
    """Flips bits of some dataranges in memory."""

    def __init__(self, folder: Path) -> None:
        self._samples = list(samples(folder))

    def attempt(self, source: random.Random, note: Callable[[object], object] = lambda _: None) -> str:
        """Flip one bit, and read. Raise AssertionError if it is unnoticed.

        Returns:
            "noticed", "healed", or "meaningless" for a bit that changes no name, size or content; verification notices
            those in paddings as well.
        """
        sample = source.choice(self._samples)
        kind: Kind = source.choice(("tar", "tar", "index", "crc32c"))
        bit, lasts = source.randrange(8 * len(sample.objects[kind])), source.random() < 0.5
        number = source.randrange(len(READS) + 1)
        note((self._samples.index(sample), kind, bit, lasts, number))
        sample.fetcher.objects = {each: Flipped(raw, 0, 0) for each, raw in sample.objects.items()}
        sample.fetcher.objects[kind] = Flipped(sample.objects[kind], bit, 1 << 30 if lasts else 1)
        reader = sample.handle._reader
        assert reader.checksums is not None
        for cache in (reader.indices, reader.checksums._records):
            cache._windows.clear()
            cache._size = 0
        if number < len(READS):
            is_noticed = _is_refused(READS[number], sample)
        else:
            is_noticed = _is_reported(sample)
            assert is_noticed or not lasts or is_meaningless(sample.raw, kind, bit), "verification overlooks the bit"
        assert lasts or not is_noticed, "the bit was wrong only once"
        return "noticed" if is_noticed else "meaningless" if lasts else "healed"


@contextmanager
def nothing_on_disk() -> Iterator[None]:
    """Cache nothing on disk, and list what is in memory."""

    def refuse(_: IndexFiles) -> None:
        raise OSError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndexFiles, "_files", refuse)
        patch.setattr(verifying, "listed", lambda connection, *_: iter([connection]))
        yield


def _is_refused(read: Read, sample: Sample) -> bool:
    """Return whether a read raises an error that names the datarange; else it must return the right thing."""
    try:
        found, expected = read(sample)
    except Datas3tError as error:
        if f"{FIRST} to {FIRST + len(sample.contents) - 1}" not in str(error):
            raise AssertionError(f"the error does not name the datarange: {error}") from error
        return True
    assert found == expected, "a read returns something wrong"
    return False


def _is_reported(sample: Sample) -> bool:
    listed = Listed(sample.columns, 0, Lifetime(0, math.inf, math.inf), len(sample.raw))
    # The listing takes the place of the connection, from which `listed` would make it.
    verifier = Verifier(listed, "flipped", sample.fetcher, 1.0, lambda _: None, None)  # type: ignore[arg-type]
    (verdict,) = verifier.verdicts(0, 100)
    return bool(verdict.problem)


def is_meaningless(raw: bytes, kind: str, bit: int) -> bool:
    """Return whether a bit of an archive is in a header, and changes no name, size or place."""
    if kind != "tar":
        return False
    wrong = bytearray(raw)
    wrong[bit // 8] ^= 1 << bit % 8
    before, after = described(raw), described(bytes(wrong))
    in_header = any(each.position <= bit // 8 < each.content.start for each, _ in before)
    return in_header and before == after


def described(raw: bytes) -> list[tuple[index.Entry, str]]:
    """Return the entries of an archive and their names."""
    entries = index.decode(tar.scan(lambda start, stop: raw[start:stop], len(raw)).index)
    return [
        (each, tar.check_entry(raw[each.position : each.content.start], each, key))
        for key, each in enumerate(entries, FIRST)
    ]
