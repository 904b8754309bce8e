"""The URL of the database: the parameters of libpq, and one parameter of the server."""

import re
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlencode

_SCHEMES = ("postgres://", "postgresql://")
_PREPARE = "prepare_threshold"
_ENCODE = "write postgres://user:password@host:port/name, with special characters in the password percent-encoded"


class DatabaseUrl(NamedTuple):
    """The parameters of libpq, and the number of executions after which a statement is prepared (None: never).

    A pooler in transaction mode may execute each transaction on another connection, so statements are only prepared if
    the URL has `?prepare_threshold=5`.
    """

    parameters: dict[str, str]
    prepare_threshold: int | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL of the database.

        Raises:
            ValueError: The URL is not valid. The message repeats no part of it, which could be the password.
        """
        from psycopg import ProgrammingError  # noqa: PLC0415 - takes a third of a second
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

        if not url.startswith(_SCHEMES):
            raise ValueError("the database URL must begin with postgres:// or postgresql://")
        _check_encoding(url)
        url, threshold = _split_threshold(url)
        try:
            parameters = conninfo_to_dict(url)
        except ProgrammingError:  # its message may repeat the password
            raise ValueError(f"the database URL cannot be read; {_ENCODE}") from None
        return cls({name: str(value) for name, value in parameters.items() if value is not None}, threshold)


def _check_encoding(url: str) -> None:
    """Raise ValueError if libpq would mistake a part of the password for the host, the port or the database.

    Its message about that host or port would contain the password.
    """
    authority, _, rest = url.partition("://")[2].partition("?")[0].partition("/")
    hosts = authority.rpartition("@")[2]
    port_is_number = all(re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?", host) for host in hosts.split(","))
    if authority.count("@") > 1 or "@" in rest or not (port_is_number or "[" in hosts):
        raise ValueError(f"the database URL cannot be read; {_ENCODE}")


def _split_threshold(url: str) -> tuple[str, int | None]:
    """Return the URL without `prepare_threshold`, and its value."""
    base, _, query = url.partition("?")
    if f"{_PREPARE}=" not in query:
        return url, None
    pairs = parse_qsl(query, keep_blank_values=True)
    value = dict(pairs)[_PREPARE]
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{_PREPARE} in the database URL must be a number, for example 5")
    others = urlencode([(name, text) for name, text in pairs if name != _PREPARE])
    return f"{base}?{others}" if others else base, int(value)
