"""A token that is written to the database itself: how the first one is made, on the server's machine."""

from datetime import datetime
from typing import NamedTuple

from datas3t.server.access import tokens
from datas3t.server.db import pool
from datas3t.server.db.migrate import MigrationEdited, migrate
from datas3t.server.settings import SettingsError


class Created(NamedTuple):
    """A new token: its text, which is not stored, its id, and when it expires, or None."""

    text: str
    id: int
    expires_at: datetime | None


def create(db_url: str, name: str, role: str, pattern: str, ttl_seconds: int) -> Created:
    """Create a token, and before it the tables, if no server has run on this database.

    Args:
        db_url: The database.
        name: As in the contract's CreateTokenRequest, like all others.
        role: What the token may do.
        pattern: Which datas3ts it is for; empty: all.
        ttl_seconds: After how long it expires; 0: never.

    Raises:
        SettingsError: The URL is not valid, or the database belongs to another version.
        Failure: The database cannot be used, or INVALID_VALUE or TOKEN_EXISTS.
    """
    try:
        migrate(db_url)
        connections = pool.open_pool(db_url, max_size=1)
    except (MigrationEdited, ValueError) as error:
        raise SettingsError(str(error)) from None
    try:
        text, row = tokens.create(connections, name, role, pattern, ttl_seconds)
    finally:
        connections.close()
    return Created(text, row.id, row.expires_at)
