"""A client's connections: a gRPC channel with its stubs, and a data-plane engine, made when first used in a process."""

import datas3t.client._calls.fork  # noqa: F401 isort: skip - before grpc is imported

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from datas3t.client._calls.rpc import Calls
from datas3t.client._calls.url import Address
from datas3t.client.errors import FileError
from datas3t.transport import Engine
from datas3t.v1.aggregate_pb2_grpc import AggregateServiceStub
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from datas3t.v1.datas3t_pb2_grpc import Datas3tServiceStub
from datas3t.v1.import_pb2_grpc import ImportServiceStub

# A restarted server is found again within a second, where gRPC would wait for up to two minutes.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """What one process holds open. The stubs retry and raise as `Calls` says."""

    process: int
    engine: Engine
    calls: Calls
    channel: grpc.Channel
    bucket: BucketServiceStub
    datas3t: Datas3tServiceStub
    datarange: DatarangeServiceStub
    imports: ImportServiceStub
    aggregate: AggregateServiceStub

    def close(self) -> None:
        """Closes the channel and the engine; calls under way, and later ones, raise FailedPrecondition."""
        self.calls.closed = True
        self.channel.close()
        self.engine.close()


class _Methods:
    """A channel as the stubs see it, whose methods go by their names.

    What gRPC registers of a method at its first call is freed with the channel; to register one on a closed channel
    ends the process.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def unary_unary(self, method: str, *, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        return self._channel.unary_unary(method, request_serializer, response_deserializer)

    def unary_stream(self, method: str, *, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        return self._channel.unary_stream(method, request_serializer, response_deserializer)


def connect(address: Address, timeout: float) -> Connection:
    """A connection of this process; nothing is sent before the first call."""
    if address.tls:
        plain = grpc.secure_channel(address.target, grpc.ssl_channel_credentials(_roots()), options=_OPTIONS)
    else:
        plain = grpc.insecure_channel(address.target, options=_OPTIONS)
    calls = Calls(address.url, timeout)
    channel = grpc.intercept_channel(plain, calls)
    methods = cast(grpc.Channel, _Methods(channel))
    return Connection(
        os.getpid(),
        Engine(),
        calls,
        channel,
        BucketServiceStub(methods),
        Datas3tServiceStub(methods),
        DatarangeServiceStub(methods),
        ImportServiceStub(methods),
        AggregateServiceStub(methods),
    )


def _roots() -> bytes | None:
    """The certificates that SSL_CERT_FILE names, which gRPC does not heed by itself; None: those it brings along."""
    path = os.environ.get("SSL_CERT_FILE")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}, which SSL_CERT_FILE names, cannot be read: {error.strerror}") from None
