"""The archives that an aggregate is made of, to be read by ranges: their URLs are renewed when they end."""

from datas3t import v1
from datas3t.archive.index import END_SIZE
from datas3t.client._calls.connection import Connection
from datas3t.client._reading import catalogue
from datas3t.transport import Request, Sink


class SourceGone(Exception):  # noqa: N818 - an event: the server says what became of it
    """A datarange was deleted, or aggregated by somebody else, under an aggregate."""


class Sources:
    """The dataranges with keys from `first` to `last`."""

    def __init__(self, connection: Connection, name: str, first: int, last: int) -> None:
        self._about = (connection, name, first, last)
        self._load()

    @property
    def size(self) -> int:
        """The size of the archive that joins them, in bytes."""
        return sum(each.entries_end for each in self._catalogue.dataranges) + END_SIZE

    @property
    def joined(self) -> bool:
        """Whether they are one that has exactly these keys."""
        _, _, first, last = self._about
        return [(each.first, each.last) for each in self._catalogue.dataranges] == [(first, last)]

    def fetch(self, piece: v1.AggregatePiece, sink: Sink) -> Request:
        """Gets bytes of a source. Raises SourceGone, then and whenever its URL must be renewed."""
        leased = self._catalogue.with_id(piece.datarange_id)
        if leased is None:
            raise SourceGone

        def url(refused: bool) -> str:
            return self._url(piece.datarange_id, refused)

        return Request("GET", url, start=piece.start, stop=piece.stop, etag=leased.data_etag, sink=sink)

    def _url(self, datarange_id: int, refused: bool) -> str:
        if self._catalogue.lifetime.is_over(refused):
            self._load()
        leased = self._catalogue.with_id(datarange_id)
        if leased is None:
            raise SourceGone
        return leased.data_url

    def _load(self) -> None:
        self._catalogue = catalogue.load(*self._about)
