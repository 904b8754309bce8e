"""What a server is told when it starts. The options of `datas3t server` make a Settings; nothing else is configured."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from datas3t.server.credentials import Cipher

DEFAULT_PORT = 8765
_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message says which, and what would do."""


class Address(NamedTuple):
    """Where to listen. An empty host: all interfaces, IPv4 and IPv6. Port 0: any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`:8765`, `127.0.0.1:0`, `localhost:8765`, `[::1]:8765`. Raises SettingsError."""
        found = re.fullmatch(
            r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]*)):(?P<port>[0-9]{1,5})", text.strip()
        )
        if found is None or int(found["port"]) > 65_535:
            raise SettingsError(
                f"the address {text!r} is not host:port; examples: :{DEFAULT_PORT}, 127.0.0.1:{DEFAULT_PORT}, [::1]:0"
            )
        return cls(found["six"] or found["host"], int(found["port"]))


@dataclass(frozen=True)
class Patience:
    """How many seconds the server waits for a client."""

    first_bytes: float = 20.0  # that show what a new connection speaks
    head: float = 75.0  # of the next HTTP request
    body: float = 60.0  # of a request whose head is there
    answer: float = 300.0  # that is on its way to it over HTTP
    rest_of_body: float = 5.0  # that nobody wants any more, so that the answer is read


EVERYWHERE = Address("", DEFAULT_PORT)


@dataclass(frozen=True)
class Settings:
    """All a server needs. `db_url` and `encryption_key` are secrets and never appear in its repr. Raises SettingsError.

    `url_lifetime` is that of presigned URLs, `drain` how long running calls may take after SIGTERM.
    """

    db_url: str = field(repr=False)
    encryption_key: str = field(repr=False)
    cache_dir: Path
    addr: Address = EVERYWHERE
    grpc_addr: Address | None = None
    max_cache_size: int = 2**30
    url_lifetime: timedelta = timedelta(hours=24)
    drain: timedelta = timedelta(seconds=25)
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.db_url:
            raise SettingsError("no database; set --db-url or DB_URL to postgres://user:password@host:port/name")
        _check_url(self.db_url)
        if not self.encryption_key:
            raise SettingsError(
                "no encryption key; set --encryption-key or ENCRYPTION_KEY (`datas3t keygen` makes one)"
            )
        try:
            Cipher(self.encryption_key)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if self.max_cache_size <= 0:
            raise SettingsError("the size of the index cache must be more than 0 bytes")
        if not timedelta() < self.url_lifetime <= timedelta(days=7):
            raise SettingsError("presigned URLs live from 1 second to 7 days, the longest that S3 allows")
        if self.log_level not in _LEVELS:
            raise SettingsError(f"the log level {self.log_level!r} is none of {', '.join(_LEVELS)}")


def _check_url(db_url: str) -> None:
    """What libpq says of a URL may repeat the password, so we do not."""
    from psycopg import ProgrammingError  # noqa: PLC0415 - a third of a second
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    if not db_url.startswith(("postgres://", "postgresql://")):
        raise SettingsError("the database URL must begin with postgres:// or postgresql://")
    try:
        conninfo_to_dict(db_url)
    except ProgrammingError:
        raise SettingsError(
            "the database URL cannot be read; it is postgres://user:password@host:port/name, where what is special in"
            " the password is percent-encoded"
        ) from None
