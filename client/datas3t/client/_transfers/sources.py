"""The dataranges that an aggregate merges, and requests for byte ranges of their archives."""

from datas3t import v1
from datas3t.archive.index import END_SIZE
from datas3t.client._calls.connection import Connection
from datas3t.client._reading import catalogue
from datas3t.client._reading.signed import SignedDatarange
from datas3t.transport import Request, Sink


class SourceMissing(Exception):  # noqa: N818 - an event: the server's error is raised in its place
    """A source was deleted, or merged by another aggregate, while this aggregate was made."""


class Sources:
    """The dataranges with keys from `first` to `last`, with URLs that are renewed when needed."""

    def __init__(self, connection: Connection, name: str, first: int, last: int) -> None:
        self._query = (connection, name, first, last)
        self._load()

    @property
    def size(self) -> int:
        """The size of the archive that merges them, in bytes."""
        return self._catalogue.entries_size + END_SIZE

    @property
    def datapoints(self) -> int:
        """The number of their datapoints."""
        return self._catalogue.datapoints

    @property
    def is_merged(self) -> bool:
        """Whether there is only one, with exactly the keys `first` to `last`."""
        _, _, first, last = self._query
        return self._catalogue.spans == [(first, last)]

    def datarange(self, datarange_id: int) -> SignedDatarange:
        """Return a source. Raise SourceMissing if it does not exist any more."""
        leased = self._catalogue.with_id(datarange_id)
        if leased is None:
            raise SourceMissing
        return leased

    def fetch(self, piece: v1.AggregatePiece, sink: Sink) -> Request:
        """Return the request that fetches a byte range of a source.

        Raises:
            SourceMissing: The source does not exist any more. The request's URL also raises it, when it is renewed.
        """
        leased = self.datarange(piece.datarange_id)

        def url(refused: bool) -> str:
            return self._url(piece.datarange_id, refused)

        return Request("GET", url, start=piece.start, stop=piece.stop, etag=leased.data_etag, sink=sink)

    def _url(self, datarange_id: int, refused: bool) -> str:
        if self._catalogue.lifetime.is_over(refused):
            self._load()
        return self.datarange(datarange_id).data_url

    def _load(self) -> None:
        self._catalogue = catalogue.load(*self._query)
