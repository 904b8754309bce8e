"""HTTP transfers between this process and S3, over libcurl. Client and server both use this package.

Import from here; the modules inside may change. An `Engine` sends requests concurrently from the calling thread,
retries what is worth retrying, and checks that what it returns is what was asked for:

    from datas3t.transport import Engine, FileSink, Request

    with Engine() as engine:
        head, tail = engine.fetch([Request("GET", url, 0, 512), Request("GET", url, 9_000, 9_512)], parallelism=2)
        engine.run([Request("GET", url, 0, size, etag, sink=FileSink(fd, 0))], parallelism=1)

A request that failed for good raises `TransferError`.
"""

from datas3t.transport.engine import Engine
from datas3t.transport.messages import (
    Body,
    FileRange,
    FileSink,
    MemoryRange,
    MemorySink,
    Range,
    Request,
    Response,
    Sink,
    TransferError,
    s3_error_code,
)

__all__ = [
    "Body",
    "Engine",
    "FileRange",
    "FileSink",
    "MemoryRange",
    "MemorySink",
    "Range",
    "Request",
    "Response",
    "Sink",
    "TransferError",
    "s3_error_code",
]
