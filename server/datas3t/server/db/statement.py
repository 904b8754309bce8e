"""Statements of the most frequent calls, executed without a cursor, which would take more time than all the rest."""

import re
from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from datas3t.server.db.pool import Connection

Value = str | int | float | bool | None
Row = tuple[Any, ...]

_PARAMETER = re.compile(r"%\((\w+)\)s")
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Statement:
    """A statement with parameters such as `%(name)s`.

    Their types are those that the database infers, so expressions that leave it no choice need a cast.
    """

    def __init__(self, text: LiteralString | sql.Composable) -> None:
        self.text = text if isinstance(text, str) else text.as_string()
        self._names = tuple(dict.fromkeys(_PARAMETER.findall(self.text)))
        numbers = {name: f"${number}" for number, name in enumerate(self._names, 1)}
        self._numbered = _PARAMETER.sub(lambda found: numbers[found[1]], self.text).encode()

    def rows(self, conn: Connection, **values: Value) -> list[Row]:
        """Execute the statement, and return the rows of its result. Raises psycopg's errors, as a cursor does."""
        result = self._execute(conn, values)
        transformer = Transformer(conn)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def row(self, conn: Connection, **values: Value) -> Row | None:
        """Execute the statement, and return the first row of its result, or None."""
        rows = self.rows(conn, **values)
        return rows[0] if rows else None

    def raw_row(self, conn: Connection, **values: Value) -> tuple[bytes | None, ...] | None:
        """Execute the statement, and return the first row of its result in the database's binary format, or None.

        A text is then in the encoding of the database, and a bytea as it is.
        """
        result = self._execute(conn, values, Format.BINARY)
        return tuple(result.get_value(0, column) for column in range(result.nfields)) if result.ntuples else None

    def _execute(self, conn: Connection, values: Mapping[str, Value], form: Format = Format.TEXT) -> PGresult:
        parameters = [_as_bytes(values[name]) for name in self._names]
        result: PGresult
        with conn.lock:
            conn.pgconn.send_query_params(self._numbered, parameters, result_format=form)
            (result,) = conn.wait(execute(conn.pgconn))
        if result.status in _FAILED:
            raise psycopg.errors.error_from_result(result)
        return result


def _as_bytes(value: Value) -> bytes | None:
    """Return a parameter as the database reads it."""
    if value is None:
        return None
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("a text with a NUL cannot be stored")
        return value.encode()
    return str(value).encode()
