"""The objects of one datas3t in a bucket: archives with their indices, and objects that are neither."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server.s3.bucket import Listed, ObjectInfo


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was listed, and its index if that was listed too."""

    datas3t: str
    first: int
    last: int
    counter: int
    data: ObjectInfo
    index: ObjectInfo | None

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


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that was not imported, and the reason in words."""

    key: str
    reason: str


class Listing:
    """The objects of a datas3t, added page by page in any order. Objects with other extensions are ignored."""

    def __init__(self, datas3t: str) -> None:
        self.counter = 0  # the greatest upload counter of all objects
        self.unrecognized: list[Skipped] = []
        self._datas3t = datas3t
        self._archives: dict[tuple[int, int, int], ObjectInfo] = {}
        self._indices: dict[tuple[int, int, int], ObjectInfo] = {}

    def add(self, page: Sequence[Listed]) -> None:
        """Add a page of the bucket's listing."""
        for each in page:
            name = names.parse(each.key)
            if name is not None:
                self.counter = max(self.counter, name.counter)
                objects = self._archives if name.kind == "tar" else self._indices
                objects[name.first, name.last, name.counter] = ObjectInfo(each.size, each.etag)
            elif each.key.endswith((".tar", ".index")):
                reason = "its name is not that of an archive or index of a datas3t"
                self.unrecognized.append(Skipped(each.key, reason))

    def archives(self) -> Iterator[Archive]:
        """Yield all archives."""
        for span, data in self._archives.items():
            yield Archive(self._datas3t, *span, data, self._indices.get(span))

    def indices_without_archive(self) -> Iterator[str]:
        """Yield the object keys of indices whose archives were not listed."""
        for span in self._indices:
            if span not in self._archives:
                yield names.index_key(names.archive_key(self._datas3t, *span))

    def object_keys(self) -> list[str]:
        """Return the keys of all archives, and of the indices without one; other indices belong to their archives."""
        return [*(archive.key for archive in self.archives()), *self.indices_without_archive()]
