"""The URL of the database: what libpq is told, and the one parameter that is ours."""

import re
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlencode

_SCHEMES = ("postgres://", "postgresql://")
_PREPARE = "prepare_threshold"
_ENCODE = "write postgres://user:password@host:port/name, with special characters in the password percent-encoded"


class DatabaseUrl(NamedTuple):
    """The parameters of libpq, and after how many runs a statement is prepared on the server (None: never).

    A pooler in transaction mode gives each transaction another connection, so nothing is prepared unless the URL asks
    for it with `?prepare_threshold=5`.
    """

    parameters: dict[str, str]
    prepare_threshold: int | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL of the database.

        Raises:
            ValueError: if it cannot be read. The message never repeats a part of it, which could be the password.
        """
        from psycopg import ProgrammingError  # noqa: PLC0415 - importing it takes a third of a second
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
    """Raise ValueError if a part of the password would be taken for the host, the port or the name of the database.

    A message about that host or port would repeat the password.
    """
    authority, _, rest = url.partition("://")[2].partition("?")[0].partition("/")
    hosts = authority.rpartition("@")[2]
    port_is_number = all(re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?", host) for host in hosts.split(","))
    if authority.count("@") > 1 or "@" in rest or not (port_is_number or "[" in hosts):
        raise ValueError(f"the database URL cannot be read; {_ENCODE}")


def _split_threshold(url: str) -> tuple[str, int | None]:
    """Return the URL without our parameter, and the value of that."""
    base, _, query = url.partition("?")
    if f"{_PREPARE}=" not in query:
        return url, None
    pairs = parse_qsl(query, keep_blank_values=True)
    value = dict(pairs)[_PREPARE]
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{_PREPARE} in the database URL must be a number of runs, such as 5")
    others = urlencode([(name, text) for name, text in pairs if name != _PREPARE])
    return f"{base}?{others}" if others else base, int(value)
