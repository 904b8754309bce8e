"""TLS at the edge: the files of the certificate, which are read again when they change, and handshakes."""

import asyncio
import logging
import ssl
import threading
from asyncio import sslproto
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cryptography import x509

from datas3t.server.settings import SettingsError, TlsFiles

_LOOK_SECONDS = 0.5  # between two looks at the files; one that was changed is read when it stays the same for so long
_MOST_HANDSHAKES = 1024  # at a time; each needs some 50 KB
_REFUSED_SECONDS = 5.0  # for a client without TLS to read why it is refused
_HANDSHAKE = 0x16  # the first byte of a TLS connection
_BUFFER = 16 << 10  # bytes: the size of a TLS record. asyncio's own 256 KiB would be taken by every idle connection.
_HTTP = "http/1.1"
_HTTP2 = "h2"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files hold: a context for the edge, and the same as PEM."""

    context: ssl.SSLContext
    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    valid_until: str


class Certificates:
    """The certificate of a server, its key, and the CA of the clients that may connect, if only some may.

    Between `start` and `close`, files that change are read again, for connections that begin then. If they cannot be
    used, what was read before stays in use, and the log says why.

    Raises:
        SettingsError: if the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._read = _versions(files)
        self._loaded = _load(files)
        self._closed = threading.Event()

    @property
    def loaded(self) -> Loaded:
        """What was read last."""
        return self._loaded

    def start(self) -> None:
        """Start to look at the files."""
        threading.Thread(target=self._watch, name="certificates", daemon=True).start()

    def close(self) -> None:
        """Look at the files no more."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            versions = _versions(self._files)
            if versions == self._seen != self._read:  # not in the middle of writing them
                self._read = versions
                self._reload()
            self._seen = versions

    def _reload(self) -> None:
        try:
            self._loaded = _load(self._files)
        except SettingsError as error:
            _log.warning("%s; the TLS certificate that was read before stays in use", error)
        else:
            _log.info("the TLS certificate was read again; it is valid until %s", self._loaded.valid_until)


class Handshakes:
    """Accepts the TLS connections of an edge, each of which is then one of the inner protocol.

    A handshake has to end in `seconds`, and so has the wait for its first byte. If too many are under way, the oldest
    one is given up: those that end soon always find room.

    Args:
        certificates: The certificate to use.
        inner: Returns the protocol of a connection, which receives what was encrypted.
        seconds: How long a handshake may take.
        refusal: What to send to clients without TLS.
    """

    def __init__(
        self, certificates: Certificates, inner: Callable[[], asyncio.Protocol], seconds: float, refusal: bytes
    ) -> None:
        self._certificates = certificates
        self._inner = inner
        self._seconds = seconds
        self._refusal = refusal
        self._under_way: dict[asyncio.Transport, None] = {}  # in the order of their beginnings

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _FirstByte(self._begin, self._seconds, self._refusal)

    def _begin(self, transport: asyncio.Transport, received: bytes) -> None:
        if len(self._under_way) >= _MOST_HANDSHAKES:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.abort()
        self._under_way[transport] = None
        # Begin the handshake, and pass on what was received.
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        ended.add_done_callback(partial(self._ended, transport))
        tls = _Tls(
            loop,
            self._inner(),
            self._certificates.loaded.context,
            ended,
            server_side=True,
            ssl_handshake_timeout=self._seconds,  # type: ignore[arg-type] # asyncio takes fractions as well
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)
        left = memoryview(received)
        while left:
            room = tls.get_buffer(len(left))
            size = min(len(room), len(left))
            room[:size] = left[:size]
            tls.buffer_updated(size)
            left = left[size:]

    def _ended(self, transport: asyncio.Transport, ended: "asyncio.Future[None]") -> None:
        ended.exception()  # a handshake that fails is nobody's defect
        self._under_way.pop(transport, None)


class _Tls(sslproto.SSLProtocol):
    """asyncio's TLS with a smaller buffer. It also tells a client why its handshake fails, which asyncio keeps back."""

    max_size = _BUFFER

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.write(self._outgoing.read())  # type: ignore[attr-defined] # the stubs lack it
        super()._fatal_error(exc, message)


class _FirstByte(asyncio.Protocol):
    """Waits for the first byte of a connection. No memory for TLS is used before, nor for clients that speak none."""

    def __init__(self, begin: Callable[[asyncio.Transport, bytes], None], seconds: float, refusal: bytes) -> None:
        self._begin = begin
        self._seconds = seconds
        self._refusal = refusal
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._timer.cancel()
        if data[0] == _HANDSHAKE:
            self._begin(self._transport, data)
            return
        self._refused = True
        self._timer = asyncio.get_running_loop().call_later(_REFUSED_SECONDS, self._transport.abort)
        self._transport.write(self._refusal)
        self._transport.write_eof()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._timer.cancel()


def speaks_http1(transport: asyncio.Transport) -> bool | None:
    """Return whether the client has chosen HTTP/1.1, or HTTP/2, by ALPN; None if it has chosen nothing."""
    tls = transport.get_extra_info("ssl_object")
    chosen = tls.selected_alpn_protocol() if tls is not None else None
    return None if chosen is None else bool(chosen == _HTTP)


def _versions(files: TlsFiles) -> tuple[tuple[int, ...] | None, ...]:
    """Return what changes when a file changes, or when a link on the way to it does."""
    return tuple(_version(path) for path in files if path)


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _load(files: TlsFiles) -> Loaded:
    """Return what the files hold. Raises SettingsError."""
    # Look at each file first, because OpenSSL does not say which one it means.
    certificate = _pem(files.cert, b"CERTIFICATE", "certificate", "--tls-cert or TLS_CERT")
    key = _pem(files.key, b"PRIVATE KEY", "private key", "--tls-key or TLS_KEY")
    ca = _pem(files.client_ca, b"CERTIFICATE", "certificate", "--tls-client-ca or TLS_CLIENT_CA")
    if b"ENCRYPTED" in key:
        raise SettingsError(
            f"the private key in {files.key} has a passphrase, which a server cannot ask for; remove it"
        )
    # Make the context.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([_HTTP, _HTTP2])  # h2 is for clients that offer nothing else
    try:
        context.load_cert_chain(files.cert, files.key, password="")  # it never asks for one
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"the key in {files.key} is not that of the certificate in {files.cert}") from None
        raise _unusable(f"{files.cert} or {files.key}", error) from None
    except OSError as error:
        raise SettingsError(f"{files.cert} or {files.key} cannot be read: {error.strerror}") from None
    if files.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise _unusable(str(files.client_ca), error) from None
    try:
        ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        raise SettingsError(f"{files.cert} is not a certificate that can be used") from None
    return Loaded(context, certificate, key, ca or None, f"{ends:%Y-%m-%dT%H:%M:%SZ}")


def _pem(path: Path | None, label: bytes, what: str, setting: str) -> bytes:
    """Return the content of a file, which has this PEM label."""
    if path is None:
        return b""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; correct {setting}") from None
    if label + b"-----" not in content:
        raise SettingsError(f"{path} has no {what} in PEM format; correct {setting}")
    return content


def _unusable(which: str, error: ssl.SSLError) -> SettingsError:
    reason = (error.reason or "unknown reason").lower().replace("_", " ")
    return SettingsError(f"{which} cannot be used for TLS: {reason}")
