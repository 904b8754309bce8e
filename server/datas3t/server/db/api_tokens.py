"""The table of tokens. It stores a hash of each secret, and never the secret."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A row without the hash."""

    id: int
    name: str
    role: str
    pattern: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a token is compared with, and what it may do.

    Times are durations from now on by the clock of the database: how long it works, and how long ago it was used.
    """

    id: int
    name: str
    role: str
    pattern: str
    is_revoked: bool
    expires_at: datetime | None
    time_left: timedelta | None
    unused_for: timedelta | None
    secret_sha256: bytes = field(repr=False)


_COLUMNS: LiteralString = "id, name, role, pattern, created_at, expires_at, last_used_at, revoked_at"

_RELEASE_NAME: LiteralString = """
    UPDATE api_tokens SET revoked_at = expires_at WHERE name = %s AND revoked_at IS NULL AND expires_at <= now()
"""


def release_name(conn: Connection, name: str) -> None:
    """Let another token take the name if the token that has it has expired."""
    conn.execute(_RELEASE_NAME, [name])


_INSERT: LiteralString = f"""
    INSERT INTO api_tokens (name, secret_sha256, role, pattern, expires_at)
    VALUES (%s, %s, %s, %s, now() + %s)
    RETURNING {_COLUMNS}
"""


def insert(
    conn: Connection, name: str, secret_sha256: bytes, role: str, pattern: str, lifetime: timedelta | None
) -> ApiToken:
    """Add a token. Raises TOKEN_EXISTS through the connection (field: token)."""
    with conn.cursor(row_factory=class_row(ApiToken)) as cur:
        row = cur.execute(_INSERT, [name, secret_sha256, role, pattern, lifetime]).fetchone()
    assert row is not None
    return row


_CREDENTIAL: LiteralString = """
    SELECT id, name, role, pattern, revoked_at IS NOT NULL AS is_revoked, expires_at, expires_at - now() AS time_left,
           now() - last_used_at AS unused_for, secret_sha256
      FROM api_tokens WHERE id = %s
"""


def credential(conn: Connection, token_id: int) -> Credential | None:
    """Return the token with this id, or None."""
    with conn.cursor(row_factory=class_row(Credential)) as cur:
        return cur.execute(_CREDENTIAL, [token_id]).fetchone()


_PAGE: LiteralString = f"SELECT {_COLUMNS} FROM api_tokens WHERE id > %s ORDER BY id LIMIT %s"


def page(conn: Connection, after: int, limit: int) -> list[ApiToken]:
    """Return up to `limit` tokens whose ids are above `after`, in order of their ids."""
    with conn.cursor(row_factory=class_row(ApiToken)) as cur:
        return cur.execute(_PAGE, [after, limit]).fetchall()


_REVOKE: LiteralString = "UPDATE api_tokens SET revoked_at = now() WHERE name = %s AND revoked_at IS NULL RETURNING id"


def revoke(conn: Connection, name: str) -> int | None:
    """Revoke the token with this name that is not revoked yet, and return its id; None if there is none."""
    row = conn.execute(_REVOKE, [name]).fetchone()
    return row[0] if row else None


_EXISTS: LiteralString = "SELECT EXISTS (SELECT FROM api_tokens WHERE name = %s)"


def exists(conn: Connection, name: str) -> bool:
    """Return whether there is, or was, a token with this name."""
    row = conn.execute(_EXISTS, [name]).fetchone()
    return row == (True,)


_RECORD_USE: LiteralString = """
    UPDATE api_tokens SET last_used_at = now()
     WHERE id = ANY(%s) AND (last_used_at IS NULL OR last_used_at < now() - %s)
"""


def record_use(conn: Connection, ids: Sequence[int], interval: timedelta) -> int:
    """Store that tokens were used now, unless that was stored within `interval`; return for how many it was stored."""
    return conn.execute(_RECORD_USE, [list(ids), interval]).rowcount
