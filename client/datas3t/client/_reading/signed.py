"""Dataranges with presigned URLs, kept as columns: a datas3t may have a million of them."""

from array import array
from bisect import bisect_left, bisect_right

from datas3t import v1
from datas3t.client._calls.renewal import Lifetime

_SIGNATURES = 64  # bytes of the two signatures of a datarange: of its archive's URL, and of its index's
_FIXED_SIZE = 2048  # bytes of the objects of a listing, however few dataranges it has
_EXPLICIT_SIZE = 1536  # bytes of a datarange whose URLs are kept as text


class SignedDatarange:
    """A datarange with presigned URLs of its archive and its index.

    It holds the keys `first` to `last`. The last entry of the archive ends at byte `entries_end`. Until `lifetime`
    ends, each URL serves any byte range of its object.
    """

    __slots__ = (
        "_columns",
        "_data_url",
        "_row",
        "data_etag",
        "entries_end",
        "first",
        "id",
        "index_etag",
        "last",
        "lifetime",
    )

    def __init__(self, columns: "Columns", row: int, lifetime: Lifetime) -> None:
        self._columns = columns
        self._row = row
        self._data_url = ""
        self.lifetime = lifetime
        self.id = columns.ids[row]
        self.first = columns.firsts[row]
        self.last = columns.lasts[row]
        self.entries_end = columns.entries_ends[row]
        self.data_etag, self.index_etag = columns.etags(row)

    def __repr__(self) -> str:
        return f"SignedDatarange(id={self.id}, first={self.first}, last={self.last})"  # URLs have signatures

    @property
    def count(self) -> int:
        """The number of datapoints."""
        return self.last - self.first + 1

    @property
    def data_url(self) -> str:
        """The URL of the archive."""
        if not self._data_url:
            self._data_url = self._columns.url(self._row, of_index=False)
        return self._data_url

    @property
    def index_url(self) -> str:
        """The URL of the index."""
        return self._columns.url(self._row, of_index=True)

    def is_same(self, other: "SignedDatarange") -> bool:
        """Return whether the other one is the same datarange, with the same objects."""
        mine = (self.id, self.data_etag, self.index_etag)
        return mine == (other.id, other.data_etag, other.index_etag)


class Columns:
    """Dataranges in key order, about 190 bytes for each; proto/datas3t/v1/datarange.proto says how to make the URLs.

    Attributes:
        ids: Their ids.
        firsts: Their first keys.
        lasts: Their last keys.
        entries_ends: The bytes at which the last entries of the archives end.
    """

    __slots__ = (
        "_counters",
        "_etag_ends",
        "_etags",
        "_explicit",
        "_pages",
        "_signatures",
        "entries_ends",
        "firsts",
        "ids",
        "lasts",
    )

    def __init__(self) -> None:
        self.ids = array("q")
        self.firsts = array("q")
        self.lasts = array("q")
        self.entries_ends = array("q")
        self._counters = array("q")
        self._signatures = bytearray()
        self._etags = bytearray()  # of archive and index, one after the other, all joined
        self._etag_ends = array("I")  # two for each datarange
        self._pages: list[tuple[int, str, str]] = []  # from which row on URLs begin and end with which text
        self._explicit: dict[int, tuple[str, str, str, str]] = {}  # URLs and ETags by id, of those without a counter

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def size(self) -> int:
        """The bytes that they take in memory."""
        numbers = (self.ids, self.firsts, self.lasts, self.entries_ends, self._counters, self._etag_ends)
        arrays = sum(each.itemsize * len(each) for each in numbers) + len(self._signatures) + len(self._etags)
        return _FIXED_SIZE + arrays + _EXPLICIT_SIZE * len(self._explicit)

    def add_page(self, page: v1.PresignDatarangesResponse) -> None:
        """Add the dataranges of the next page.

        After an aggregation between two pages, the later one covers keys of the earlier one again. Then it counts.
        """
        columns = page.columns
        first_keys = [*columns.first_keys[:1], *(each.min_datapoint_key for each in page.dataranges[:1])]
        if not first_keys:
            return
        self._drop_from(min(first_keys))
        self._pages.append((len(self), columns.url_prefix, columns.url_query))
        self.ids.extend(columns.datarange_ids)
        self.firsts.extend(columns.first_keys)
        counts = zip(columns.first_keys, columns.datapoints, strict=True)
        self.lasts.extend([first + count - 1 for first, count in counts])
        self.entries_ends.extend(columns.entries_size_bytes)
        self._counters.extend(columns.counters)
        self._signatures += columns.signatures
        end = len(self._etags)
        etags = [text.encode() for pair in zip(columns.data_etags, columns.index_etags, strict=True) for text in pair]
        self._etags += b"".join(etags)
        for etag in etags:
            end += len(etag)
            self._etag_ends.append(end)
        for each in page.dataranges:
            keys = each.min_datapoint_key, each.max_datapoint_key
            urls = each.presigned_data_url, each.presigned_index_url
            self.add(each.datarange_id, *keys, each.entries_size_bytes, urls, (each.data_etag, each.index_etag))

    def add(
        self, number: int, first: int, last: int, entries_end: int, urls: tuple[str, str], etags: tuple[str, str]
    ) -> None:
        """Add a datarange with this id and any URLs, those of its archive and its index, where it belongs."""
        at = bisect_left(self.firsts, first)
        columns = (self.ids, self.firsts, self.lasts, self.entries_ends, self._counters)
        for column, value in zip(columns, (number, first, last, entries_end, 0), strict=True):
            column.insert(at, value)
        self._signatures[at * _SIGNATURES : at * _SIGNATURES] = bytes(_SIGNATURES)
        end = self._etag_ends[2 * at - 1] if at else 0
        self._etag_ends[2 * at : 2 * at] = array("I", (end, end))
        self._explicit[number] = (*urls, *etags)

    def etags(self, row: int) -> tuple[str, str]:
        """Return the ETags of the archive and the index."""
        if explicit := self._explicit.get(self.ids[row]):
            return explicit[2:]
        ends = self._etag_ends
        start, middle, end = ends[2 * row - 1] if row else 0, ends[2 * row], ends[2 * row + 1]
        return self._etags[start:middle].decode(), self._etags[middle:end].decode()

    def url(self, row: int, *, of_index: bool) -> str:
        """Return the URL of the archive, or of the index."""
        if explicit := self._explicit.get(self.ids[row]):
            return explicit[of_index]
        _, prefix, query = self._pages[bisect_right(self._pages, row, key=lambda page: page[0]) - 1]
        at = row * _SIGNATURES + (_SIGNATURES // 2 if of_index else 0)
        name = f"{self.firsts[row]:020d}-{self.lasts[row]:020d}-{self._counters[row]:012d}"
        signature = self._signatures[at : at + _SIGNATURES // 2].hex()
        return f"{prefix}{name}{'.index' if of_index else '.tar'}?{query}&X-Amz-Signature={signature}"

    def _drop_from(self, key: int) -> None:
        """Drop the dataranges that end at the key or after it."""
        rows = bisect_left(self.lasts, key)
        if rows == len(self):
            return
        for number in self.ids[rows:]:
            self._explicit.pop(number, None)
        for column in (self.ids, self.firsts, self.lasts, self.entries_ends, self._counters):
            del column[rows:]
        del self._signatures[rows * _SIGNATURES :]
        del self._etag_ends[2 * rows :]
        del self._etags[self._etag_ends[-1] if rows else 0 :]
        self._pages = [page for page in self._pages if page[0] < rows]
