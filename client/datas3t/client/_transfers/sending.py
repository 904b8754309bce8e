"""Sends an archive and its index to S3, straight from the file, without the parts that S3 already has."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from datas3t import v1
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.source import Source
from datas3t.client._transfers.task import Tuning
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, FileRange, Request, Response

_HASHED_AT_ONCE = 1 << 20  # bytes


def send(
    engine: Engine,
    upload: OpenUpload,
    source: Source,
    index: bytes,
    *,
    uploaded: Sequence[v1.UploadedPart],
    tuning: Tuning,
    progress: Progress | None,
) -> list[str]:
    """Send the archive and the index.

    Args:
        engine: The engine that sends.
        upload: The upload, which has the URLs.
        source: The archive.
        index: The archive's index.
        uploaded: The parts that S3 already has. Those with other bytes than the file are sent again.
        tuning: Parallelism and retries.
        progress: Is called with the phases "resume" and "upload", in bytes.

    Returns:
        The ETags of all parts, in order; empty for a direct upload.
    """
    # Find out what need not be sent.
    etags = _unchanged_parts(upload, source, uploaded, progress)
    done = sum(len(upload.part(number)) for number in etags)
    reporter = Reporter(progress, "upload", source.size + len(index), done)

    # Send the rest.
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
            _requests(upload, source, index, frozenset(etags), numbers),
            parallelism=tuning.parallelism,
            retries=tuning.retries,
            on_done=on_done,
            on_bytes=on_bytes,
        )
    reporter.done()
    return [etags[number] for number in range(1, upload.part_count + 1)]


def _requests(
    upload: OpenUpload, source: Source, index: bytes, skipped: frozenset[int], numbers: dict[Request, int]
) -> Iterator[Request]:
    """Yield the requests that send the index, and the archive whole or in parts, and note the part of each."""
    yield Request("PUT", upload.index_url, body=index)
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
