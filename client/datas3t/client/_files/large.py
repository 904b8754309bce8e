"""Fetches a large datapoint straight into a file, and compares it with its checksum."""

from collections.abc import Callable, Iterator
from functools import partial

from datas3t.archive.header import check_entry
from datas3t.archive.index import BLOCK, Entry, padded
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.reader import Reader
from datas3t.client._reading.signed import SignedDatarange
from datas3t.client._transfers.download import Plan, PlanChanged
from datas3t.client.errors import Aborted, ArchiveError, DatapointNotFound
from datas3t.transport import FileSink, Request

_PARALLELISM = 4  # requests at a time
_CHUNK = 8 << 20  # bytes of one request
_RETRIES = 6
_ATTEMPTS = 3


def fetch(
    connection: Connection,
    name: str,
    key: int,
    size: int,
    fd: int,
    *,
    on_bytes: Callable[[int], None],
    check: Callable[[], None],
) -> None:
    """Fetch the content of a datapoint into an empty file.

    Args:
        connection: The connection to the server.
        name: The datas3t.
        key: The key of the datapoint.
        size: The size that its content has, in bytes.
        fd: The file.
        on_bytes: Called with the number of bytes that arrived since the last call.
        check: Called several times a second; what it raises ends the transfer.

    Raises:
        ArchiveError: The datapoint has another size or key.
        NotFound: It does not exist.
        Aborted: The dataranges changed several times meanwhile.
    """
    for _ in range(_ATTEMPTS):
        plan = Plan(connection, name, key, key)
        (segment,) = plan.segments
        header = segment.stop - segment.start - padded(size)
        if header < BLOCK or header % BLOCK:
            raise ArchiveError(f"datapoint {key} has not the size {size} that its row in the table files has")
        try:
            url = partial(plan.url, 0)
            with translated_transfer_errors():
                (headers,) = connection.engine.fetch(
                    [Request("GET", url, segment.start, segment.start + header, segment.etag)],
                    parallelism=1,
                    retries=_RETRIES,
                )
                check_entry(headers, Entry(0, header // BLOCK, size), key)
                connection.engine.run(
                    _requests(url, segment.etag, segment.start + header, size, fd),
                    parallelism=_PARALLELISM,
                    retries=_RETRIES,
                    on_bytes=on_bytes,
                    time_left=check,
                )
        except PlanChanged:
            continue
        return
    raise Aborted(f"the dataranges of {name!r} changed several times while datapoint {key} was fetched")


def checksum(reader: Reader, key: int) -> int | None:
    """Return the checksum of a datapoint; None if it has none, or none is wanted."""
    checksums = reader.checksums
    if checksums is None:
        return None
    return reader.located(lambda _indices, fetcher: checksums.one(_holding(fetcher, key), key, fetcher))


def compared(reader: Reader, key: int, fetch: Callable[[], int]) -> int:
    """Return the CRC-32C of a content that `fetch` puts elsewhere, compared with its checksum.

    Args:
        reader: Knows the checksum.
        key: The key of the datapoint.
        fetch: Fetches the content and returns its CRC. If it differs, this is called once more.

    Raises:
        ChecksumMismatch: It differs from its checksum, also when both are fetched again.
    """
    found = fetch()
    checksums = reader.checksums
    if checksums is None or checksum(reader, key) in (None, found):
        return found
    checksums.forget(reader.located(lambda _indices, fetcher: _holding(fetcher, key)))
    found = fetch()
    if checksum(reader, key) not in (None, found):
        raise checksums.mismatch(reader.located(lambda _indices, fetcher: _holding(fetcher, key)), key)
    return found


def _holding(fetcher: Fetcher, key: int) -> SignedDatarange:
    datarange = fetcher.catalogues.holding(key)
    if datarange is None:
        raise DatapointNotFound(f"datapoint {key} was deleted", key=key)
    return datarange


def _requests(url: Callable[[bool], str], etag: str, start: int, size: int, fd: int) -> Iterator[Request]:
    for at in range(0, size, _CHUNK):
        stop = start + min(at + _CHUNK, size)
        yield Request("GET", url, start + at, stop, etag, sink=FileSink(fd, at))
