"""Dataranges as the server knows them: listing, deleting, signing."""

from dataclasses import dataclass

from datas3t import v1
from datas3t.archive import names
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages
from datas3t.client.errors import Aborted, InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Datarange:
    """A committed datarange: keys `first` to `last`, an archive of `size` bytes and its index in the bucket."""

    id: int
    first: int
    last: int
    size: int
    object_key: str
    index_object_key: str

    @property
    def datapoints(self) -> int:
        """How many datapoints it holds."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of one archive: GET `url` with `Range: bytes=start-(stop-1)` and, to be sure, `If-Match: "etag"`."""

    url: str
    start: int
    stop: int
    etag: str


def list_all(connection: Connection, name: str) -> list[Datarange]:
    """As Client.list_dataranges."""
    listing = pages(
        lambda token: connection.datarange.ListDataranges(v1.ListDatarangesRequest(datas3t_name=name, page_token=token))
    )
    return [_datarange(found) for page in listing for found in page.dataranges]


def delete(connection: Connection, name: str, first: int, last: int) -> list[Datarange]:
    """As Client.delete_dataranges."""
    check_range(first, last)
    chosen = _within(connection, name, first, last)
    _check_ends(name, chosen, first, last)
    for found in chosen:
        try:
            connection.datarange.DeleteDatarange(
                v1.DeleteDatarangeRequest(
                    datas3t_name=name, first_datapoint_key=found.first, last_datapoint_key=found.last
                )
            )
        except NotFound as error:
            # Repeated after a lost answer, the call no longer finds what it deleted; or it was merged with others.
            if error.reason != "DATARANGE_NOT_FOUND":
                raise
            if _within(connection, name, found.first, found.last):
                message = f"dataranges within {first} to {last} of {name!r} were replaced meanwhile; list them anew"
                raise Aborted(message) from None
    return chosen


def _within(connection: Connection, name: str, first: int, last: int) -> list[Datarange]:
    """Those with a key from `first` to `last`."""
    return [found for found in list_all(connection, name) if found.first <= last and found.last >= first]


def _check_ends(name: str, chosen: list[Datarange], first: int, last: int) -> None:
    if not chosen:
        raise NotFound(
            f"datas3t {name!r} has no datarange within {first} to {last}; list its dataranges",
            reason="DATARANGE_NOT_FOUND",
            metadata={"datas3t": name, "first": str(first), "last": str(last)},
        )
    if chosen[0].first != first or chosen[-1].last != last:
        raise InvalidArgument(
            f"{first} to {last} cuts through dataranges of {name!r}; "
            f"whole ones there are {chosen[0].first} to {chosen[-1].last}"
        )


def presign_download(connection: Connection, name: str, first: int, last: int) -> tuple[list[Segment], Lifetime]:
    """Return the segments, as `Client.presign_download` does, and the lifetime of their URLs."""
    check_range(first, last)
    answers = list(
        pages(
            lambda token: connection.datarange.PresignDownload(
                v1.PresignDownloadRequest(
                    datas3t_name=name, first_datapoint=first, last_datapoint=last, page_token=token
                )
            )
        )
    )
    segments = [_segment(found) for answer in answers for found in answer.download_segments]
    return segments, Lifetime.until(*(answer.expires_at for answer in answers))


def check_range(first: int, last: int) -> None:
    """Raises InvalidArgument where these are no first and last key of a range."""
    if not 0 <= first <= last <= names.MAX_KEY:
        raise InvalidArgument(
            f"{first} to {last} is no range of keys: they are 0 to 2^63-1, the first not above the last"
        )


def _segment(found: v1.DownloadSegment) -> Segment:
    start, last = found.range.removeprefix("bytes=").split("-")
    return Segment(found.presigned_url, int(start), int(last) + 1, found.etag)


def _datarange(found: v1.Datarange) -> Datarange:
    return Datarange(
        id=found.datarange_id,
        first=found.min_datapoint_key,
        last=found.max_datapoint_key,
        size=found.size_bytes,
        object_key=found.data_object_key,
        index_object_key=found.index_object_key,
    )
