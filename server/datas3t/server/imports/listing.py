"""The objects of one datas3t in a bucket, page by page: archives with what is beside them, and all others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.archive.names import Kind
from datas3t.server.s3.bucket import Listed, ObjectInfo

_Span = tuple[int, int, int]  # first key, last key, upload counter


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was listed, and its index and its checksums if those were listed too."""

    datas3t: str
    first: int
    last: int
    counter: int
    data: ObjectInfo
    index: ObjectInfo | None
    checksums: ObjectInfo | None = None

    @property
    def count(self) -> int:
        """The number of datapoints that its name stands for."""
        return self.last - self.first + 1

    @property
    def key(self) -> str:
        """The object key of the archive."""
        return names.archive_key(self.datas3t, self.first, self.last, self.counter)

    @property
    def index_key(self) -> str:
        """The object key of the index."""
        return names.index_key(self.key)

    @property
    def checksums_key(self) -> str:
        """The object key of the checksums."""
        return names.checksums_key(self.key)


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that was not imported, and the reason in words."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Archives that overlap none of the others, and objects that are no archives.

    `lone` are the object keys of indices and checksums without an archive.
    """

    archives: list[Archive]
    lone: list[str]
    unrecognized: list[Skipped]

    def parts(self, most: int) -> "Iterator[Found]":
        """Yield parts of about `most` archives, without what is unrecognized. Groups that overlap stay together."""
        start = 0
        reached = -1  # the last key so far
        for at, archive in enumerate(self.archives):
            if at - start >= most and archive.first > reached:
                yield Found(self.archives[start:at], [], [])
                start = at
            reached = max(reached, archive.last)
        if self.archives[start:] or self.lone:
            yield Found(self.archives[start:], self.lone, [])


class OutOfOrderError(Exception):
    """The store does not list the objects of a folder in the order of their keys."""


class Listing:
    """Takes pages in the order of the keys, which is that of first keys, and returns what is complete.

    Archives are complete if no archive that overlaps them can follow. So what is in memory at a time is a page and a
    group of archives that overlap each other. Objects with other extensions are ignored.
    """

    def __init__(self, datas3t: str) -> None:
        self.counter = 0  # the greatest upload counter of all objects
        self.last_key = -1  # their greatest last key
        self._datas3t = datas3t
        self._beside: dict[Kind, ObjectInfo] = {}  # objects of `_previous` whose archive was not listed yet
        self._open: list[Archive] = []  # a group of archives that overlap each other
        self._open_last = -1  # their last key
        self._previous: _Span = (0, 0, 0)

    def add(self, page: Iterable[Listed]) -> Found:
        """Add a page, and return what is complete.

        Raises OutOfOrderError if an object should have been on an earlier page.
        """
        found = Found([], [], [])
        for each in page:
            name = names.parse(each.key)
            if name is not None:
                span = (name.first, name.last, name.counter)
                if span < self._previous:
                    raise OutOfOrderError
                if span > self._previous:
                    self._end_beside(found)
                self._previous = span
                self.counter = max(self.counter, name.counter)
                self.last_key = max(self.last_key, name.last)
                self._add(span, name.kind, ObjectInfo(each.size, each.etag), found)
            elif each.key.endswith((".tar", ".index", ".crc32c")):
                reason = "its name is not that of an archive or index of a datas3t"
                found.unrecognized.append(Skipped(each.key, reason))
        return found

    def finish(self) -> Found:
        """Return the rest, after the last page."""
        found = Found([], [], [])
        self._end_beside(found)
        self._end_group(found)
        return found

    def _add(self, span: _Span, kind: Kind, info: ObjectInfo, found: Found) -> None:
        if kind != "tar":  # which is listed last, because "tar" is the last in the order of the alphabet
            self._beside[kind] = info
            return
        if span[0] > self._open_last:
            self._end_group(found)
        index, checksums = self._beside.pop("index", None), self._beside.pop("crc32c", None)
        self._open.append(Archive(self._datas3t, *span, info, index, checksums))
        self._open_last = max(self._open_last, span[1])

    def _end_beside(self, found: Found) -> None:
        """Add the objects whose archive was not listed."""
        if self._beside:
            stem = names.archive_key(self._datas3t, *self._previous).removesuffix("tar")
            found.lone.extend(stem + kind for kind in self._beside)
            self._beside = {}

    def _end_group(self, found: Found) -> None:
        found.archives.extend(self._open)
        self._open = []


def in_order(pages: Iterable[Sequence[Listed]]) -> list[Listed]:
    """Return the objects of all pages in the order of their keys, for stores that have another order."""
    return sorted((each for page in pages for each in page), key=lambda each: each.key)
