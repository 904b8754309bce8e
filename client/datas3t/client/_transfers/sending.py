"""Sends an archive and its index to S3: parts straight from the file, those that are there already left out."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from datas3t import v1
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.source import Source
from datas3t.client._transfers.tuning import Tuning
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, FileRange, Request, Response

_PIECE = 1 << 20  # bytes that are read at a time to compare a part


def send(
    engine: Engine,
    upload: OpenUpload,
    source: Source,
    index: bytes,
    *,
    there: Sequence[v1.UploadedPart],
    tuning: Tuning,
    progress: Progress | None,
) -> list[str]:
    """Puts archive and index where they belong; the parts' ETags, in order: none for a direct upload.

    Of the parts that are `there` only those are left alone whose ETag is the MD5 of the file's bytes.
    """
    etags = _trusted(upload, source, there, progress)
    done = sum(len(upload.part(number)) for number in etags)
    reporter = Reporter(progress, "upload", source.size + len(index), done)

    numbers: dict[Request, int] = {}

    def note(request: Request, response: Response) -> None:
        if number := numbers.pop(request, 0):
            etags[number] = response.etag

    def count(size: int) -> None:
        nonlocal done
        done += size
        reporter.at(done)

    with translated_transfer_errors():
        engine.run(
            _requests(upload, source, index, frozenset(etags), numbers),
            parallelism=tuning.parallelism,
            retries=tuning.retries,
            on_done=note,
            on_bytes=count,
        )
    reporter.done()
    return [etags[number] for number in range(1, upload.part_count + 1)]


def _requests(
    upload: OpenUpload, source: Source, index: bytes, there: frozenset[int], numbers: dict[Request, int]
) -> Iterator[Request]:
    """The index, and the archive whole or in the parts that are missing; those note their `numbers`."""
    yield Request("PUT", upload.index_url, body=index)
    if upload.direct:
        yield Request("PUT", upload.data_url, body=FileRange(source.fd, range(source.size)))
    for number in range(1, upload.part_count + 1):
        if number not in there:
            body = FileRange(source.fd, upload.part(number))
            request = Request("PUT", partial(upload.part_url, number), body=body)
            numbers[request] = number
            yield request


def _trusted(
    upload: OpenUpload, source: Source, there: Sequence[v1.UploadedPart], progress: Progress | None
) -> dict[int, str]:
    """The parts that need not be sent again, by number."""
    likely = [
        part for part in there if 1 <= part.number <= upload.part_count and part.size == len(upload.part(part.number))
    ]
    if not likely:
        return {}
    reporter = Reporter(progress, "resume", sum(part.size for part in likely))
    etags, done = {}, 0
    for part in likely:
        if _md5(source.fd, upload.part(part.number)) == part.etag:
            etags[part.number] = part.etag
        done += part.size
        reporter.at(done)
    return etags


def _md5(fd: int, part: range) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(part.start, part.stop, _PIECE):
        digest.update(os.pread(fd, min(_PIECE, part.stop - start), start))
    return digest.hexdigest()
