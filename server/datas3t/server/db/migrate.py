"""Migrations: numbered SQL files, each executed once per database, even if several servers start concurrently."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import psycopg

from datas3t import v1
from datas3t.server.db import faults
from datas3t.server.db.pool import Connection, connect
from datas3t.server.errors import Failure

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6461746173337400  # the advisory lock of migrations: "datas3t" in ASCII
_LOCK_WAIT = timedelta(minutes=2)  # for another server to finish its migrations

_LEDGER = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version     text PRIMARY KEY,
        sha256      text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    )
"""

# Set for the transaction only, because a pooler may give its connection to others afterwards. A migration may take any
# time, but a server that is stopped between two of them must not keep the others from starting.
_LIMITS = """
    SET LOCAL client_min_messages = warning;
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = '1min'
"""


class MigrationEdited(RuntimeError):  # noqa: N818 - it names what happened
    """The migrations of the database are not those of this server: they were edited, or are those of a newer server."""


def migrate(db_url: str, folder: Path = _FOLDER, lock_wait: timedelta = _LOCK_WAIT) -> list[str]:
    """Run the migrations that have not run on this database, in order, and return their names.

    All run in one transaction, whose lock excludes other servers even behind a pooler. If a migration fails, the ones
    before it are kept.

    Raises:
        Failure: The database does not respond or cannot be used.
        MigrationEdited: The database has other migrations.
    """
    files = sorted(folder.glob("[0-9]*.sql"))
    try:
        with connect(db_url) as conn:
            if not _missing(conn, files):  # neither the lock nor the privilege to create tables is needed
                return []
            return _run(conn, files, lock_wait)
    except psycopg.Error as error:
        failure = faults.start_failure(error)
        if failure is None:
            raise
        raise failure from error


def _run(conn: Connection, files: Sequence[Path], lock_wait: timedelta) -> list[str]:
    """Run the missing migrations under the lock, and return their names."""
    ran = []
    failed = None
    with conn.transaction():
        conn.execute(_LIMITS)
        _lock(conn, lock_wait)
        conn.execute(_LEDGER)
        for path in _missing(conn, files):
            text = path.read_bytes()
            try:
                with conn.transaction():  # a savepoint
                    conn.execute(text)
                    row = [path.stem, sha256(text).hexdigest()]
                    conn.execute("INSERT INTO schema_migrations (version, sha256) VALUES (%s, %s)", row)
            except psycopg.Error as error:
                if conn.closed:
                    raise
                failed = error
                break
            ran.append(path.stem)
    if failed is not None:
        raise failed
    return ran


def _lock(conn: Connection, wait: timedelta) -> None:
    """Lock out other servers until the transaction ends. Raises Failure if one holds the lock for longer than `wait`.

    The limit also applies to the locks on tables that migrations change, because calls of other servers use them.
    """
    conn.execute("SELECT set_config('lock_timeout', %s, true)", [f"{wait // timedelta(milliseconds=1)}ms"])
    try:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    except psycopg.errors.LockNotAvailable as error:
        message = f"another server has been migrating the database for {wait.total_seconds():.0f} seconds"
        raise Failure(
            v1.ERROR_REASON_DATABASE_UNAVAILABLE, f"{message}; start this one again when it is done"
        ) from error


def _missing(conn: Connection, files: Sequence[Path]) -> list[Path]:
    """Return the migrations that have not run on this database. Raises MigrationEdited if others have."""
    ledger_exists = conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone()
    if ledger_exists != (True,):
        return list(files)
    ledger: dict[str, str] = dict(conn.execute("SELECT version, sha256 FROM schema_migrations").fetchall())
    if newer := sorted(ledger.keys() - {path.stem for path in files}):
        raise MigrationEdited(
            f"the database was migrated by a newer server, because this one does not have {', '.join(newer[:3])};"
            " install the version of datas3t that used this database last, or a later one"
        )
    for path in files:
        known = ledger.get(path.stem)
        if known is not None and known != sha256(path.read_bytes()).hexdigest():
            raise MigrationEdited(f"migration {path.name} was edited after it ran here; add a new one instead")
    return [path for path in files if path.stem not in ledger]
