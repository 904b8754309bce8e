"""Calls for dataranges: list, delete, and presign downloads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import index as integer

from datas3t import v1
from datas3t.archive import names
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages, relisted
from datas3t.client.errors import Aborted, Datas3tError, Interrupted, InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Datarange:
    """A committed datarange: an archive with its index and, mostly, its checksums in the bucket.

    Attributes:
        id: The server's id.
        first: The first key.
        last: The last key; all keys between exist.
        size: The size of the archive, in bytes.
        object_key: The archive's object key.
        index_object_key: The index's object key.
        checksums_object_key: The object key of the checksums; empty if there are none.
        extension: The extension that all names have, without the leading dot; empty if they differ or it is not known.
    """

    id: int
    first: int
    last: int
    size: int
    object_key: str
    index_object_key: str
    checksums_object_key: str = ""
    extension: str = ""

    @property
    def datapoints(self) -> int:
        """The number of its datapoints."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A byte range of one archive, to be fetched with any HTTP client.

    Send a GET to `url` with the header `Range: bytes=<start>-<stop - 1>`, and `If-Match: "<etag>"` to be sure that the
    object did not change.

    Attributes:
        url: The presigned URL.
        start: The first byte.
        stop: The byte after the last one.
        etag: The archive's ETag, without quotes.
    """

    url: str = field(repr=False)
    start: int
    stop: int
    etag: str


def list_all(connection: Connection, name: str) -> list[Datarange]:
    """Return all dataranges of a datas3t; see `Datas3t.list_dataranges`."""

    def page_at(token: str) -> v1.ListDatarangesResponse:
        return connection.datarange.ListDataranges(v1.ListDatarangesRequest(datas3t_name=name, page_token=token))

    return relisted(lambda: [_datarange(message) for page in pages(page_at) for message in page.dataranges])


def delete(connection: Connection, name: str, first: int, last: int, purge_versions: bool) -> list[Datarange]:
    """Delete the dataranges from key `first` to key `last`; see `Datas3t.delete_dataranges`."""
    check_range(first, last)
    chosen = _within(connection, name, first, last)
    _check_ends(name, chosen, first, last)
    deleted: list[Datarange] = []
    with _deleted_named(name, chosen, deleted):
        for datarange in chosen:
            _delete_one(connection, name, datarange, purge_versions)
            deleted.append(datarange)
    return chosen


def _delete_one(connection: Connection, name: str, datarange: Datarange, purge_versions: bool) -> None:
    """Delete one datarange. Raise Aborted if it was merged with others since."""
    request = v1.DeleteDatarangeRequest(
        datas3t_name=name,
        first_datapoint_key=datarange.first,
        last_datapoint_key=datarange.last,
        purge_versions=purge_versions,
    )
    try:
        connection.datarange.DeleteDatarange(request)
    except NotFound as error:
        if error.reason != "DATARANGE_NOT_FOUND":
            raise
        # Either this is a retry of a call that succeeded, or the datarange was merged with others since.
        if _within(connection, name, datarange.first, datarange.last):
            raise Aborted(
                f"the datarange {datarange.first} to {datarange.last} of {name!r} was replaced concurrently; "
                "list the dataranges again"
            ) from None


@contextmanager
def _deleted_named(name: str, chosen: Sequence[Datarange], deleted: Sequence[Datarange]) -> Iterator[None]:
    """Add to what ends the block which of the chosen dataranges it has deleted, if that is not all of them."""
    try:
        yield
    except (Datas3tError, KeyboardInterrupt) as error:
        done = "nothing was deleted before that"
        about = {"deleted": str(len(deleted))}
        if deleted:
            first, last = deleted[0].first, deleted[-1].last
            done = f"deleted before that: {len(deleted)} of {len(chosen)} dataranges, datapoints {first} to {last}"
            about |= {"deleted_first": str(first), "deleted_last": str(last)}
        if isinstance(error, KeyboardInterrupt):
            message = f"the deletion in {name!r} was interrupted; {done}; run it again for the rest"
            raise Interrupted(message) from None
        raise type(error)(f"{error}; {done}", reason=error.reason, metadata=error.metadata | about) from None


def _within(connection: Connection, name: str, first: int, last: int) -> list[Datarange]:
    """Return the dataranges that hold any key from `first` to `last`."""
    return [each for each in list_all(connection, name) if each.first <= last and each.last >= first]


def _check_ends(name: str, chosen: list[Datarange], first: int, last: int) -> None:
    """Raise unless there are dataranges, and the first begins and the last ends with the given keys."""
    if not chosen:
        raise NotFound(
            f"datas3t {name!r} has no datarange within {first} to {last}; list its dataranges",
            reason="DATARANGE_NOT_FOUND",
            metadata={"datas3t": name, "first": str(first), "last": str(last)},
        )
    if chosen[0].first != first or chosen[-1].last != last:
        raise InvalidArgument(
            f"{first} to {last} cuts through dataranges of {name!r}; "
            f"use {chosen[0].first} to {chosen[-1].last} to include them whole"
        )


def presign_download(connection: Connection, name: str, first: int, last: int) -> tuple[list[Segment], Lifetime]:
    """Return the segments of keys `first` to `last`, and their URLs' lifetime; see `Datas3t.presign_download`."""
    check_range(first, last)

    def page_at(token: str) -> v1.PresignDownloadResponse:
        return connection.datarange.PresignDownload(
            v1.PresignDownloadRequest(datas3t_name=name, first_datapoint=first, last_datapoint=last, page_token=token)
        )

    listing = relisted(lambda: list(pages(page_at)))
    segments = [_segment(message) for page in listing for message in page.download_segments]
    return segments, Lifetime.until(*(page.expires_at for page in listing))


def check_range(first: int, last: int) -> None:
    """Raise InvalidArgument if `first` and `last` are not the first and last key of a range."""
    if not 0 <= first <= last <= names.MAX_KEY:
        raise InvalidArgument(
            f"{first} to {last} is not a range of keys: they are 0 to 2^63-1, and the first is not above the last"
        )


def key_range(first: int | None, last: int | None) -> tuple[int, int]:
    """Return `first` and `last` as integers, with the lowest and highest possible key in place of None.

    Raises:
        InvalidArgument: They are not a range of keys.
    """
    keys = 0 if first is None else integer(first), names.MAX_KEY if last is None else integer(last)
    check_range(*keys)
    return keys


def _segment(message: v1.DownloadSegment) -> Segment:
    start, last = message.range.removeprefix("bytes=").split("-")
    return Segment(message.presigned_url, int(start), int(last) + 1, message.etag)


def _datarange(message: v1.Datarange) -> Datarange:
    return Datarange(
        id=message.datarange_id,
        first=message.min_datapoint_key,
        last=message.max_datapoint_key,
        size=message.size_bytes,
        object_key=message.data_object_key,
        index_object_key=message.index_object_key,
        checksums_object_key=message.checksums_object_key,
        extension=message.extension,
    )
