"""One process's connection to a server: its address, a gRPC channel with the generated stubs, and a transfer engine."""

import datas3t.client._calls.fork  # noqa: F401 isort: skip - before grpc is imported

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import grpc

from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.rpc import CallInterceptor
from datas3t.client._calls.uninterrupted import is_interruptible, uninterrupted
from datas3t.client.errors import FileError, InvalidArgument
from datas3t.transport import Engine, ca_bundle, is_loopback, system_bundle
from datas3t.v1.aggregate_pb2_grpc import AggregateServiceStub
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from datas3t.v1.datas3t_pb2_grpc import Datas3tServiceStub
from datas3t.v1.import_pb2_grpc import ImportServiceStub
from datas3t.v1.table_pb2_grpc import TableServiceStub
from datas3t.v1.token_pb2_grpc import TokenServiceStub

_DEFAULT_URL = "http://localhost:8765"

_CHANNEL_OPTIONS = (
    # gRPC waits up to two minutes before it reconnects. With these, it finds a restarted server within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Each channel has its own connections and back-off, whatever other channels of the process do.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address.

    Attributes:
        url: As a user writes it, "http://host:port".
        target: As gRPC takes it, "host:port".
        tls: Whether to use TLS.
        loopback: Whether the host is this machine.
    """

    url: str
    target: str
    tls: bool
    loopback: bool


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files for TLS with the server, as PEM.

    Attributes:
        ca: The certificates to trust for connections to the server. None: those that the environment names, otherwise
            the system's.
        cert: The client's certificate, which only some servers ask for.
        key: Its private key.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, ca_file: str | os.PathLike[str] | None) -> "TlsFiles":
        """Return the files, those of the environment included. Raises InvalidArgument if one of two is missing."""
        if ca_file == "":
            raise InvalidArgument("ca_file is empty; name a file, or leave it out")
        ca = os.fspath(ca_file) if ca_file else os.environ.get("DATAS3T_CA_FILE")
        cert, key = os.environ.get("DATAS3T_CLIENT_CERT"), os.environ.get("DATAS3T_CLIENT_KEY")
        if bool(cert) != bool(key):
            raise InvalidArgument("a client certificate needs its key; set DATAS3T_CLIENT_CERT and DATAS3T_CLIENT_KEY")
        return cls(ca or None, cert or None, key or None)


def resolve_address(url: str | None = None) -> Address:
    """Return the address of the server at `url`.

    Args:
        url: Scheme, host and port. https means TLS; without a port it is 443 or 80. None: the value of
            DATAS3T_SERVER_URL, otherwise http://localhost:8765.

    Raises:
        InvalidArgument: The URL is not valid, or has more than scheme, host and port.
    """
    if url == "":
        raise InvalidArgument(f"the server URL is empty; give one, such as {_DEFAULT_URL}, or None")
    check_text(url=url, DATAS3T_SERVER_URL=os.environ.get("DATAS3T_SERVER_URL"))
    url = (url or os.environ.get("DATAS3T_SERVER_URL") or _DEFAULT_URL).rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"the server URL {url!r} is not valid: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"the server URL {url!r} needs a scheme and a host, such as {_DEFAULT_URL}")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise InvalidArgument(f"the server URL {url!r} has more than scheme, host and port; write it as {_DEFAULT_URL}")
    tls = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, f"{host}:{port or (443 if tls else 80)}", tls, is_loopback(parts.hostname))


@dataclass(frozen=True, slots=True)
class Connection:
    """An open channel with the stub of each service, and the engine for transfers, of the process with id `process`.

    The stubs' calls have deadlines, retries and errors as described at `CallInterceptor`.
    """

    process: int
    engine: Engine
    interceptor: CallInterceptor
    channel: grpc.Channel
    bucket: BucketServiceStub
    datas3t: Datas3tServiceStub
    datarange: DatarangeServiceStub
    imports: ImportServiceStub
    aggregate: AggregateServiceStub
    table: TableServiceStub
    token: TokenServiceStub

    def close(self) -> None:
        """Close the channel and the engine. Calls in flight, and later ones, raise FailedPrecondition."""
        self.interceptor.closed = True
        uninterrupted(self.channel.close)
        self.engine.close()


class _UnregisteredMethods:
    """A channel for the stubs that passes methods to gRPC by name, without registering them.

    The stubs would register each method at its first call. gRPC frees what it registered when the channel is closed,
    and registering a method on a closed channel crashes the process.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def unary_unary(self, method: str, *, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        return _UnaryCalls(self._channel.unary_unary(method, request_serializer, response_deserializer))

    def unary_stream(self, method: str, *, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        return self._channel.unary_stream(method, request_serializer, response_deserializer)


class _UnaryCalls:
    """The calls of one method with one response. They can be cancelled if they are made where they may be interrupted.

    For that they must begin as futures, which takes a little longer.
    """

    def __init__(self, calls: Any) -> None:
        self.with_call = calls.with_call
        self.future = calls.future
        self._calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.future(*args, **kwargs).result() if is_interruptible() else self._calls(*args, **kwargs)


def connect(
    address: Address, timeout: float, tls: TlsFiles, token: Callable[[], str | None] = lambda: None
) -> Connection:
    """Return a new connection of this process; nothing is sent before the first call.

    Args:
        address: The server.
        timeout: The deadline of each attempt of a call, in seconds.
        tls: The files for TLS.
        token: Returns what the server is shown, or None.

    Raises:
        FileError: A file with certificates or with a key cannot be read.
    """
    # gRPC takes a proxy from the environment, which this machine's own addresses never need.
    options = (*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0 if address.loopback else 1))
    if address.tls:
        credentials = _credentials(tls)
        plain = grpc.secure_channel(address.target, credentials, options=options)
    else:
        plain = grpc.insecure_channel(address.target, options=options)
    interceptor = CallInterceptor(address.url, timeout, tls.ca, token)
    channel = grpc.intercept_channel(plain, interceptor)
    methods = cast(grpc.Channel, _UnregisteredMethods(channel))
    return Connection(
        os.getpid(),
        Engine(),
        interceptor,
        channel,
        BucketServiceStub(methods),
        Datas3tServiceStub(methods),
        DatarangeServiceStub(methods),
        ImportServiceStub(methods),
        AggregateServiceStub(methods),
        TableServiceStub(methods),
        TokenServiceStub(methods),
    )


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    roots = _content(tls.ca, "for the server's CA") if tls.ca else _root_certificates()
    if not tls.cert or not tls.key:
        return grpc.ssl_channel_credentials(roots)
    cert = _content(tls.cert, "named by DATAS3T_CLIENT_CERT", b"CERTIFICATE-----")
    key = _content(tls.key, "named by DATAS3T_CLIENT_KEY", b"PRIVATE KEY-----")
    return grpc.ssl_channel_credentials(roots, key, cert)


def _root_certificates() -> bytes | None:
    """Return the certificates to trust, which gRPC does not find itself, or None to use gRPC's own.

    SSL_CERT_FILE replaces the system's certificates. The other variables are meant for S3, so theirs are only added.
    """
    trusted = ca_bundle()
    if trusted is None or not trusted.variable:
        return None
    content = _content(trusted.path, f"named by {trusted.variable}")
    usual = system_bundle() if trusted.variable != "SSL_CERT_FILE" else None
    return content + b"\n" + Path(usual).read_bytes() if usual else content


def _content(path: str, which: str, label: bytes = b"CERTIFICATE-----") -> bytes:
    """Return the content of a PEM file. gRPC would say of a wrong one only that no server responds."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}, {which}, cannot be read: {error.strerror}") from None
    if label not in content:
        what = label.rstrip(b"-").decode().lower()
        raise FileError(f"{path}, {which}, has no {what} in PEM format")
    return content
