"""Sends an archive, its index and its checksums to S3, the archive straight from the file.

Parts that S3 already has are left out.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from datas3t import v1
from datas3t.archive.tar import Contents
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.source import Source
from datas3t.client._transfers.task import Tuning
from datas3t.client.errors import TransferRefused
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, FileRange, Request, Response, TimeLeft

_HASHED_AT_ONCE = 1 << 20  # bytes
_NOT_SUPPORTED = ("400", "501")  # statuses of S3 for what it does not know or does not allow


def send(
    engine: Engine,
    upload: OpenUpload,
    source: Source,
    contents: Contents,
    *,
    uploaded: Sequence[v1.UploadedPart],
    tuning: Tuning,
    progress: Progress | None,
    time_left: TimeLeft | None = None,
) -> list[str]:
    """Send the archive, the index and the checksums.

    Args:
        engine: The engine that sends.
        upload: The upload, which has the URLs.
        source: The archive.
        contents: The archive's index and checksums.
        uploaded: The parts that S3 already has. Those with other bytes than the file are sent again.
        tuning: Parallelism and retries.
        progress: Is called with the phases "resume" and "upload", in bytes.
        time_left: Is called several times a second, and may raise what ends the transfer; see `Engine.run`.

    Returns:
        The ETags of all parts, in order; empty for a direct upload.
    """
    etags = _unchanged_parts(upload, source, uploaded, progress)
    try:
        _send(engine, upload, source, contents, etags, tuning, progress, "upload", time_left)
    except TransferRefused as error:
        if not is_because_of_crc(error, upload):
            raise
        upload.open_without_crc()
        etags.clear()
        _send(engine, upload, source, contents, etags, tuning, progress, "upload again", time_left)
    return [etags[number] for number in range(1, upload.part_count + 1)]


def is_because_of_crc(error: TransferRefused, upload: OpenUpload) -> bool:
    """Return whether S3 presumably refuses parts because it was asked for the checksum of the whole archive."""
    return upload.crc_requested and error.metadata.get("status") in _NOT_SUPPORTED


def _send(
    engine: Engine,
    upload: OpenUpload,
    source: Source,
    contents: Contents,
    etags: dict[int, str],
    tuning: Tuning,
    progress: Progress | None,
    phase: str,
    time_left: TimeLeft | None,
) -> None:
    """Send everything but the parts that have an ETag, and add the ETags of the others."""
    done = sum(len(upload.part(number)) for number in etags)
    checksums = contents.checksums if upload.has_checksums else b""
    reporter = Reporter(progress, phase, source.size + len(contents.index) + len(checksums), done)
    numbers: dict[Request, int] = {}  # of the requests that send parts

    def on_done(request: Request, response: Response) -> None:
        if number := numbers.pop(request, 0):
            etags[number] = response.etag

    def on_bytes(size: int) -> None:
        nonlocal done
        done += size
        reporter.update(done)

    with translated_transfer_errors():
        engine.run(
            _requests(upload, source, contents.index, checksums, frozenset(etags), numbers),
            parallelism=tuning.parallelism,
            retries=tuning.retries,
            on_done=on_done,
            on_bytes=on_bytes,
            time_left=time_left,
        )
    reporter.done()


def _requests(
    upload: OpenUpload,
    source: Source,
    index: bytes,
    checksums: bytes,
    skipped: frozenset[int],
    numbers: dict[Request, int],
) -> Iterator[Request]:
    """Yield the requests that send all objects, the archive whole or in parts, and note the part of each."""
    yield Request("PUT", upload.index_url, body=index)
    if checksums:
        yield Request("PUT", upload.checksums_url, body=checksums)
    if upload.direct:
        yield Request("PUT", upload.data_url, body=FileRange(source.fd, range(source.size)))
    for number in range(1, upload.part_count + 1):
        if number not in skipped:
            body = FileRange(source.fd, upload.part(number))
            request = Request("PUT", partial(upload.part_url, number), body=body)
            numbers[request] = number
            yield request


def _unchanged_parts(
    upload: OpenUpload, source: Source, uploaded: Sequence[v1.UploadedPart], progress: Progress | None
) -> dict[int, str]:
    """Return the ETags, by number, of the parts that have the file's bytes: their ETag is the MD5 of these."""
    likely = [
        part
        for part in uploaded
        if 1 <= part.number <= upload.part_count and part.size == len(upload.part(part.number))
    ]
    if not likely:
        return {}
    reporter = Reporter(progress, "resume", sum(part.size for part in likely))
    etags, done = {}, 0
    for part in likely:
        if _md5(source.fd, upload.part(part.number)) == part.etag:
            etags[part.number] = part.etag
        done += part.size
        reporter.update(done)
    return etags


def _md5(fd: int, part: range) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(part.start, part.stop, _HASHED_AT_ONCE):
        digest.update(os.pread(fd, min(_HASHED_AT_ONCE, part.stop - start), start))
    return digest.hexdigest()
