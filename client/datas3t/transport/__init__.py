"""HTTP transfers between this process and S3, over libcurl. Client and server both use this package.

Import from here; the modules inside may change. An `Engine` sends requests concurrently from the thread of the caller,
retries what is worth retrying (`policy` says what), and checks that what it returns is what was requested:

    from datas3t.transport import Engine, FileSink, Request

    with Engine() as engine:
        head, tail = engine.fetch([Request("GET", url, 0, 512), Request("GET", url, 9_000, 9_512)], parallelism=2)
        engine.run([Request("GET", url, 0, size, etag, sink=FileSink(fd, 0))], parallelism=1)

A request that has failed for good raises `TransferError`.
"""

from datas3t.transport.addresses import LINK_LOCAL as LINK_LOCAL_CODE
from datas3t.transport.addresses import is_link_local
from datas3t.transport.bodies import Body, FileRange, FileSink, MemoryRange, MemorySink, Sink
from datas3t.transport.engine import Engine, Observed
from datas3t.transport.head import bare_etag, s3_error_code
from datas3t.transport.messages import Range, Request, Response, TransferError
from datas3t.transport.proxies import grpc_proxy_variable, is_loopback
from datas3t.transport.run import TimeLeft
from datas3t.transport.trust import Trusted, ca_bundle, system_bundle

__all__ = [
    "LINK_LOCAL_CODE",
    "Body",
    "Engine",
    "FileRange",
    "FileSink",
    "MemoryRange",
    "MemorySink",
    "Observed",
    "Range",
    "Request",
    "Response",
    "Sink",
    "TimeLeft",
    "TransferError",
    "Trusted",
    "bare_etag",
    "ca_bundle",
    "grpc_proxy_variable",
    "is_link_local",
    "is_loopback",
    "s3_error_code",
    "system_bundle",
]
