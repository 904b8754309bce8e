"""Dataranges with presigned URLs, kept as columns: a datas3t may have a million of them."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from sys import intern
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from datas3t import v1
from datas3t.client._calls.renewal import Lifetime

Kind: TypeAlias = Literal["tar", "index", "crc32c"]
"""What an object of a datarange is, the end of its key: the archive, the index or the checksums."""

_KINDS: tuple[Kind, ...] = ("tar", "index", "crc32c")
_SIGNATURE = 32  # bytes
_SIGNATURES = 64  # bytes of the two signatures of a datarange: of its archive's URL, and of its index's
_FIXED_SIZE = 2048  # bytes of the objects of a listing, however few dataranges it has
_EXPLICIT_SIZE = 1536  # bytes of a datarange whose URLs are kept as text


class SignedDatarange:
    """A datarange with presigned URLs of its archive, its index and, if it has some, its checksums.

    It holds the keys `first` to `last`. The last entry of the archive ends at byte `entries_end`. Until `lifetime`
    ends, each URL serves any byte range of its object. `checksums_etag` is empty if there are no checksums.
    """

    __slots__ = (
        "_columns",
        "_data_url",
        "_row",
        "checksums_etag",
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
        self.checksums_etag = columns.checksums_etag(row)

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
            self._data_url = self._columns.url(self._row, "tar")
        return self._data_url

    @property
    def index_url(self) -> str:
        """The URL of the index."""
        return self._columns.url(self._row, "index")

    @property
    def extension(self) -> str:
        """The extension that all its entries have; empty if they have different ones, or it is not known."""
        return self._columns.extension(self._row)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of objects that it has."""
        return _KINDS if self.checksums_etag else _KINDS[:2]

    def url(self, kind: Kind) -> str:
        """Return the URL of one of its objects."""
        return self.data_url if kind == "tar" else self._columns.url(self._row, kind)

    def etag(self, kind: Kind) -> str:
        """Return the ETag of one of its objects."""
        if kind == "tar":
            return self.data_etag
        return self.index_etag if kind == "index" else self.checksums_etag

    def path(self, kind: Kind) -> str:
        """Return the path of an object in its URL, as `TransferError.path` has it."""
        return unquote(urlsplit(self.url(kind)).path)

    def object_key(self, kind: Kind) -> str:
        """Return the key of an object in its bucket, whose name comes first in the path."""
        path = self.path(kind).removeprefix("/")
        return path.partition("/")[2] or path

    def is_same(self, other: "SignedDatarange") -> bool:
        """Return whether the other one is the same datarange, with the same objects."""
        mine = (self.id, self.data_etag, self.index_etag)
        return mine == (other.id, other.data_etag, other.index_etag)


class Columns:
    """Dataranges in key order, about 190 bytes for each, or 260 with checksums.

    proto/datas3t/v1/datarange.proto says how to make the URLs.

    Attributes:
        ids: Their ids.
        firsts: Their first keys.
        lasts: Their last keys.
        entries_ends: The bytes at which the last entries of the archives end.
    """

    __slots__ = (
        "_checksums",
        "_counters",
        "_etag_ends",
        "_etags",
        "_explicit",
        "_extensions",
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
        # By id the URLs and ETags of those without a counter: of archive, index and, possibly, checksums.
        self._explicit: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._checksums: _Checksums | None = None  # if a datarange has some
        self._extensions: list[str] = []  # empty, or one for each datarange

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def size(self) -> int:
        """The bytes that they take in memory."""
        numbers = (self.ids, self.firsts, self.lasts, self.entries_ends, self._counters, self._etag_ends)
        arrays = sum(each.itemsize * len(each) for each in numbers) + len(self._signatures) + len(self._etags)
        checksums = (self._checksums.size if self._checksums else 0) + 8 * len(self._extensions)
        return _FIXED_SIZE + arrays + checksums + _EXPLICIT_SIZE * len(self._explicit)

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
        if self._checksums or columns.checksums_etags:
            self._checksums = self._checksums or _Checksums(len(self) - len(columns.first_keys))
            self._checksums.extend(len(columns.first_keys), columns.checksums_etags, columns.checksums_signatures)
        if self._extensions or columns.extensions:
            self._extensions += [""] * (len(self) - len(columns.first_keys) - len(self._extensions))
            self._extensions += map(intern, columns.extensions or [""] * len(columns.first_keys))
        end = len(self._etags)
        pairs = zip(columns.data_etags, columns.index_etags, strict=True)
        encoded = [text.encode() for pair in pairs for text in pair]
        self._etags += b"".join(encoded)
        for etag in encoded:
            end += len(etag)
            self._etag_ends.append(end)
        for each in page.dataranges:
            keys = each.min_datapoint_key, each.max_datapoint_key
            urls = each.presigned_data_url, each.presigned_index_url, each.presigned_checksums_url
            etags = each.data_etag, each.index_etag, each.checksums_etag
            self.add(each.datarange_id, *keys, each.entries_size_bytes, urls, etags)

    def add(
        self, number: int, first: int, last: int, entries_end: int, urls: Sequence[str], etags: Sequence[str]
    ) -> None:
        """Add a datarange with this id and any URLs, where it belongs.

        The URLs and the ETags are those of its archive and its index, and possibly of its checksums.
        """
        at = bisect_left(self.firsts, first)
        columns = (self.ids, self.firsts, self.lasts, self.entries_ends, self._counters)
        for column, value in zip(columns, (number, first, last, entries_end, 0), strict=True):
            column.insert(at, value)
        self._signatures[at * _SIGNATURES : at * _SIGNATURES] = bytes(_SIGNATURES)
        end = self._etag_ends[2 * at - 1] if at else 0
        self._etag_ends[2 * at : 2 * at] = array("I", (end, end))
        if self._checksums:
            self._checksums.insert(at)
        if self._extensions:
            self._extensions.insert(at, "")
        self._explicit[number] = tuple(urls), tuple(etags)

    def etags(self, row: int) -> tuple[str, str]:
        """Return the ETags of the archive and the index."""
        if explicit := self._explicit.get(self.ids[row]):
            return explicit[1][0], explicit[1][1]
        ends = self._etag_ends
        start, middle, end = ends[2 * row - 1] if row else 0, ends[2 * row], ends[2 * row + 1]
        return self._etags[start:middle].decode(), self._etags[middle:end].decode()

    def checksums_etag(self, row: int) -> str:
        """Return the ETag of the checksums; empty without checksums."""
        if self._explicit and (explicit := self._explicit.get(self.ids[row])):
            return "".join(explicit[1][2:])
        return self._checksums.etag(row) if self._checksums else ""

    def extension(self, row: int) -> str:
        """Return the extension that all entries have, or an empty one."""
        return self._extensions[row] if self._extensions else ""

    def url(self, row: int, kind: Kind) -> str:
        """Return the URL of one of the objects; that of checksums only if there are some."""
        if explicit := self._explicit.get(self.ids[row]):
            return explicit[0][_KINDS.index(kind)]
        _, prefix, query = self._pages[bisect_right(self._pages, row, key=lambda page: page[0]) - 1]
        name = f"{self.firsts[row]:020d}-{self.lasts[row]:020d}-{self._counters[row]:012d}"
        if kind == "crc32c" and self._checksums:
            signature = self._checksums.signature(row)
        else:
            at = row * _SIGNATURES + (_SIGNATURE if kind == "index" else 0)
            signature = self._signatures[at : at + _SIGNATURE]
        return f"{prefix}{name}.{kind}?{query}&X-Amz-Signature={signature.hex()}"

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
        if self._checksums:
            self._checksums.drop_from(rows)
        del self._extensions[rows:]
        del self._etag_ends[2 * rows :]
        del self._etags[self._etag_ends[-1] if rows else 0 :]
        self._pages = [page for page in self._pages if page[0] < rows]


class _Checksums:
    """The ETags of the checksums of dataranges, empty where there are none, and the signatures of their URLs."""

    def __init__(self, count: int) -> None:
        self._signatures = bytearray(count * _SIGNATURE)
        self._etags = bytearray()
        self._ends = array("I", bytes(4 * count))  # where each ETag ends

    @property
    def size(self) -> int:
        return len(self._signatures) + len(self._etags) + self._ends.itemsize * len(self._ends)

    def extend(self, count: int, etags: Sequence[str], signatures: bytes) -> None:
        """Add those of `count` dataranges, of which none has checksums if `etags` is empty."""
        self._signatures += signatures or bytes(count * _SIGNATURE)
        encoded = [etag.encode() for etag in etags or [""] * count]
        self._ends.extend(list(accumulate(map(len, encoded), initial=len(self._etags)))[1:])
        self._etags += b"".join(encoded)

    def insert(self, row: int) -> None:
        """Insert a datarange whose ETag and URL are kept elsewhere."""
        self._signatures[row * _SIGNATURE : row * _SIGNATURE] = bytes(_SIGNATURE)
        self._ends.insert(row, self._ends[row - 1] if row else 0)

    def drop_from(self, row: int) -> None:
        """Drop the rows from this one on."""
        del self._signatures[row * _SIGNATURE :]
        del self._etags[self._ends[row - 1] if row else 0 :]
        del self._ends[row:]

    def etag(self, row: int) -> str:
        """Return the ETag of a row."""
        return self._etags[self._ends[row - 1] if row else 0 : self._ends[row]].decode()

    def signature(self, row: int) -> bytearray:
        """Return the signature of a row."""
        return self._signatures[row * _SIGNATURE : (row + 1) * _SIGNATURE]
