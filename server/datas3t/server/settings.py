"""All settings of a server. The options of `datas3t server` become a Settings; nothing else is configured."""

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from datas3t.server.credentials import Cipher
from datas3t.server.db.url import DatabaseUrl

DEFAULT_PORT = 8765
MAX_WORKERS = 256
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("text", "json")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_MIN_ADMIN_TOKEN = 32  # characters
_OTHER_TOKENS = re.compile(r"d3t_[0-9]|eyJ[A-Za-z0-9_-]*\.")  # those of `datas3t token create`, and JWTs
_ENDPOINTS = re.compile(r"(?:(?:https?|\*)://)?[A-Za-z0-9._*:\[\]-]+")
_ISSUER = re.compile(r"https://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


class SettingsError(ValueError):
    """A setting has a value that cannot be used. The message names the setting and says what is allowed."""


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a name or an IP address is of this machine alone."""
    host = host.lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Address(NamedTuple):
    """Where to listen. An empty host stands for all interfaces, IPv4 and IPv6; port 0 for any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, *, tls: bool) -> str:
        """Return the URL for clients on this machine."""
        host = self.host if self.host.strip("0.:") else "127.0.0.1"  # "", "0.0.0.0" and "::" are all interfaces
        return f"{'https' if tls else 'http'}://{Address(host, self.port)}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address that text such as `:8765`, `localhost:8765` or `[::1]:8765` names.

        Raises:
            SettingsError: if it is not host:port.
        """
        match = re.fullmatch(
            r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]*)):(?P<port>[0-9]{1,5})", text.strip()
        )
        if match is None or int(match["port"]) > 65_535:
            raise SettingsError(
                f"the address {text!r} is not host:port; examples: :{DEFAULT_PORT}, 127.0.0.1:{DEFAULT_PORT}, [::1]:0"
            )
        return cls(match["six"] or match["host"], int(match["port"]))


class TlsFiles(NamedTuple):
    """The files of a server's certificate and its key, and of the CA of the clients that alone may connect, as PEM."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
        """Return the files, or None without a certificate.

        Raises:
            SettingsError: if one is missing.
        """
        if cert and key:
            return cls(cert, key, client_ca)
        if cert or key or client_ca:
            raise SettingsError("TLS needs a certificate and its key; set --tls-cert and --tls-key (TLS_CERT, TLS_KEY)")
        return None


@dataclass(frozen=True)
class Timeouts:
    """How many seconds the server waits for a client before it closes the connection, and how long calls may take."""

    first_bytes: float = 20.0  # for enough bytes of a new connection to distinguish gRPC from HTTP/1.1
    request_head: float = 75.0  # for the head of the next HTTP request, so also for an idle connection
    request_body: float = 60.0  # for the whole body after the head
    response: float = 300.0  # for the client to take the whole response
    unread_body: float = 5.0  # for a refused request's body to end; the client may not read the response before
    idle_stream: float = 300.0  # for the next question of a client of the reflection service
    call: float = 300.0  # for a call, from when its request is whole
    long_call: float = 1800.0  # for calls that have S3 join parts, or that read many indices
    stepwise_call: float = 6 * 3600.0  # for an import, which may read headers of every archive in a bucket


@dataclass(frozen=True)
class OidcSettings:
    """An OIDC provider whose tokens are accepted, which are for `audience`.

    `role_claim` names the role of a caller, and `pattern_claim`, if there is one, its patterns.

    Raises:
        SettingsError: if a value cannot be used.
    """

    issuer: str
    audience: str
    role_claim: str = "datas3t_role"
    pattern_claim: str = ""

    def __post_init__(self) -> None:
        if not _ISSUER.fullmatch(self.issuer):
            raise SettingsError(
                f"the OIDC issuer {self.issuer!r} is not https://host with a port and a path, if it has them; correct"
                " --oidc-issuer or OIDC_ISSUER"
            )
        if not self.audience or not self.role_claim:
            raise SettingsError("an OIDC issuer needs --oidc-audience or OIDC_AUDIENCE, and the name of a role claim")


@dataclass(frozen=True)
class AccessSettings:
    """Who is let in. `admin_token` is a secret.

    With `asks`, callers need a token. `admin_token` is that of an admin that needs no row in the database, or empty.
    `metrics_asks` is whether `/metrics` needs a token as well. `audit_log` is the file of the audit log; without one,
    it is written with the log if callers need a token. `oidc` is a provider whose tokens are accepted as well.

    Raises:
        SettingsError: if a value cannot be used.
    """

    asks: bool = False
    admin_token: str = field(default="", repr=False)
    metrics_asks: bool = False
    audit_log: Path | None = None
    oidc: OidcSettings | None = None

    def __post_init__(self) -> None:
        if self.oidc and not self.asks:
            raise SettingsError("tokens of an OIDC issuer are only asked for with --auth tokens; set it as well")
        token = self.admin_token
        if not token:
            return
        if len(token) < _MIN_ADMIN_TOKEN or not (token.isascii() and token.isprintable()) or token.strip() != token:
            raise SettingsError(
                f"ADMIN_TOKEN must be {_MIN_ADMIN_TOKEN} or more printable ASCII characters, no blank at an end;"
                " `datas3t keygen` makes one"
            )
        if _OTHER_TOKENS.match(token):
            raise SettingsError("ADMIN_TOKEN must not look like a token that was created; `datas3t keygen` makes one")


ALL_INTERFACES = Address("", DEFAULT_PORT)


@dataclass(frozen=True)
class Settings:
    """All settings of a server, checked. `db_url` and `encryption_key` are secrets and never appear in its repr.

    `max_cache_size` limits the index cache, in bytes. `url_lifetime` is how long presigned URLs work. `drain` is how
    long running calls may take to end after SIGTERM. `cors_origins` are the origins of other web pages that may send
    requests, `allowed_hosts` the names of this server that web pages may use. `workers` is how many processes share the
    port. With `tls` the server speaks TLS. `access` is about who may do what.

    Raises:
        SettingsError: if a value cannot be used.
    """

    db_url: str = field(repr=False)
    encryption_key: str = field(repr=False)
    cache_dir: Path
    addr: Address = ALL_INTERFACES
    grpc_addr: Address | None = None
    max_cache_size: int = 2**30
    url_lifetime: timedelta = timedelta(hours=24)
    drain: timedelta = timedelta(seconds=25)
    log_level: str = "info"
    log_format: str = "text"
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    tls: TlsFiles | None = None
    allow_endpoints: tuple[str, ...] = ()
    access: AccessSettings = AccessSettings()

    def __post_init__(self) -> None:
        if not self.db_url:
            raise SettingsError("no database; set --db-url or DB_URL to postgres://user:password@host:port/name")
        try:
            DatabaseUrl.parse(self.db_url)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if not self.encryption_key:
            raise SettingsError(
                "no encryption key; set --encryption-key or ENCRYPTION_KEY (`datas3t keygen` makes one)"
            )
        try:
            Cipher(self.encryption_key)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if self.max_cache_size <= 0:
            raise SettingsError("the index cache must be larger than 0 bytes; set --max-cache-size or MAX_CACHE_SIZE")
        if not timedelta() < self.url_lifetime <= timedelta(days=7):
            raise SettingsError("presigned URLs must be valid for 1 second to 7 days, the longest that S3 allows")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SettingsError(f"{self.workers} workers are not 1 to {MAX_WORKERS}; correct --workers or WORKERS")
        if self.log_level not in _LEVELS:
            raise SettingsError(f"the log level {self.log_level!r} is not one of {', '.join(_LEVELS)}")
        if self.log_format not in _FORMATS:
            raise SettingsError(f"the log format {self.log_format!r} is not one of {', '.join(_FORMATS)}")
        self._check_names()

    def _check_names(self) -> None:
        for pattern in self.allow_endpoints:
            if not _ENDPOINTS.fullmatch(pattern):
                raise SettingsError(
                    f"{pattern!r} matches no endpoint: write scheme://host:port, host:port or host, with * for any"
                    " characters; correct --allow-endpoints or ALLOW_ENDPOINTS"
                )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"the origin {origin!r} is not scheme://host or scheme://host:port; correct --cors-origin or"
                    " CORS_ORIGIN"
                )
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise SettingsError(
                    f"{host!r} is not the name of a host, without scheme and port; correct --allowed-hosts or"
                    " ALLOWED_HOSTS"
                )
