"""Brings a database to the schema of this server: numbered files, each once, whoever starts at the same time."""

from hashlib import sha256
from pathlib import Path

import psycopg

from datas3t.server.db.pool import unavailable

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6461746173337400  # "datas3t"

_LEDGER = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version     text PRIMARY KEY,
        sha256      text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    )
"""


class MigrationEdited(RuntimeError):  # noqa: N818 - it says what happened
    """A migration's file is not the one that ran on this database."""


def migrate(db_url: str, folder: Path = _FOLDER) -> list[str]:
    """Runs the migrations that this database has not seen, in order, each in its own transaction; returns their names.

    Raises Failure where the database does not answer, and MigrationEdited.
    """
    try:
        with psycopg.connect(db_url, autocommit=True, connect_timeout=10, application_name="datas3t") as conn:
            conn.execute("SET client_min_messages = warning")
            conn.execute("SELECT pg_advisory_lock(%s)", [_LOCK])  # ends with the connection
            return _run(conn, folder)
    except psycopg.OperationalError as error:
        raise unavailable(str(error).partition("\n")[0]) from error


def _run(conn: psycopg.Connection, folder: Path) -> list[str]:
    conn.execute(_LEDGER)
    ledger: dict[str, str] = dict(conn.execute("SELECT version, sha256 FROM schema_migrations").fetchall())
    ran = []
    for path in sorted(folder.glob("[0-9]*.sql")):
        text = path.read_bytes()
        digest = sha256(text).hexdigest()
        if (known := ledger.get(path.stem)) is None:
            with conn.transaction():
                conn.execute(text)
                conn.execute("INSERT INTO schema_migrations (version, sha256) VALUES (%s, %s)", [path.stem, digest])
            ran.append(path.stem)
        elif known != digest:
            raise MigrationEdited(f"migration {path.name} was edited after it ran here; add a new one instead")
    return ran
