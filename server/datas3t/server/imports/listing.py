"""What stands in a bucket of one datas3t: archives, each with the index beside it, and what is neither."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server.s3.bucket import Listed, ObjectInfo


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was listed, and its index where there is one."""

    datas3t: str
    first: int
    last: int
    counter: int
    data: ObjectInfo
    index: ObjectInfo | None

    @property
    def count(self) -> int:
        """How many datapoints it holds by its name."""
        return self.last - self.first + 1

    @property
    def key(self) -> str:
        """Its object key."""
        return names.archive_key(self.datas3t, self.first, self.last, self.counter)

    @property
    def index_key(self) -> str:
        """The object key of its index."""
        return names.index_key(self.key)


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that was left out, and why, in words."""

    key: str
    reason: str


class Listing:
    """Takes the pages of a bucket's listing, in whatever order. Objects that look like none of ours are passed over."""

    def __init__(self, datas3t: str) -> None:
        self.counter = 0  # the greatest of all that stand there
        self.strange: list[Skipped] = []
        self._datas3t = datas3t
        self._archives: dict[tuple[int, int, int], ObjectInfo] = {}
        self._indices: dict[tuple[int, int, int], ObjectInfo] = {}

    def take(self, page: Sequence[Listed]) -> None:
        """Adds a page."""
        for each in page:
            name = names.parse(each.key)
            if name is not None:
                self.counter = max(self.counter, name.counter)
                kind = self._archives if name.kind == "tar" else self._indices
                kind[name.first, name.last, name.counter] = ObjectInfo(each.size, each.etag)
            elif each.key.endswith((".tar", ".index")):
                self.strange.append(Skipped(each.key, "its name is not that of an archive or index of a datas3t"))

    def archives(self) -> Iterator[Archive]:
        """All archives."""
        for where, data in self._archives.items():
            yield Archive(self._datas3t, *where, data, self._indices.get(where))

    def lonely_indices(self) -> Iterator[str]:
        """The keys of indices without an archive."""
        for where in self._indices:
            if where not in self._archives:
                yield names.index_key(names.archive_key(self._datas3t, *where))
