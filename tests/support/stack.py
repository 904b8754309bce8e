"""Databases and buckets of the services, and processes that tests start and kill."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
from psycopg import sql
from pytest_postgresql.janitor import DatabaseJanitor

from datas3t.embedded import launcher
from datas3t.embedded.ports import free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

_numbers = itertools.count(1)


@contextlib.contextmanager
def new_database(services: "Services", template: str = "template0") -> Iterator[str]:
    """Create a database, yield its URL, and drop the database after the block."""
    with _janitor(services, template) as janitor:
        yield services.postgres.url(janitor.dbname)


def make_logins_cheap(services: "Services") -> None:
    """Store the password with one hash instead of 4,096, which each login of a client would compute again."""
    with psycopg.connect(services.postgres.url(), autocommit=True) as connection:
        connection.execute("SET scram_iterations = 1")
        password = sql.Literal(services.postgres.password)
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(password))


class DatabasePool:
    """Databases with the server's schema. Each is lent to one test at a time, without any rows.

    Deleting the rows of a test takes a tenth of the time that creating a database takes.
    """

    _MAX_SIZE = 32 * 2**20  # bytes; a new database has 7 MiB, and deleted rows stay on disk for a while

    def __init__(self, services: "Services", template: str) -> None:
        self._services = services
        self._template = template
        self._idle: list[_Lendable] = []
        with psycopg.connect(services.postgres.url(template)) as connection:
            self._schema = _schema(connection)
            self._delete_rows = sql.SQL("; ").join(_delete_rows(connection))

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the URL of an empty database."""
        lent = self._idle.pop() if self._idle else self._new()
        try:
            yield self._services.postgres.url(lent.janitor.dbname)
        finally:
            if self._empties(lent):
                self._idle.append(lent)
            else:
                lent.connection.close()
                lent.janitor.drop()

    def close(self) -> None:
        """Close the connections to the databases that are not lent."""
        while self._idle:
            self._idle.pop().connection.close()

    def _new(self) -> "_Lendable":
        """Create a database."""
        janitor = _janitor(self._services, self._template)
        janitor.init()
        return _Lendable(janitor, self._connect(janitor))

    def _connect(self, janitor: DatabaseJanitor) -> psycopg.Connection:
        return psycopg.connect(self._services.postgres.url(janitor.dbname), autocommit=True)

    def _empties(self, lent: "_Lendable") -> bool:
        """Delete all rows, and return whether the database is as good as a new one."""
        try:
            lent.connection.execute(_END_OTHER_CONNECTIONS)
        except psycopg.OperationalError:  # the test has ended all connections
            lent.connection.close()
            lent.connection = self._connect(lent.janitor)
            lent.connection.execute(_END_OTHER_CONNECTIONS)
        if _schema(lent.connection) != self._schema:  # a test has changed it
            return False
        lent.connection.execute(self._delete_rows)
        size = lent.connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return size is not None and size[0] <= self._MAX_SIZE


@dataclass
class _Lendable:
    """A database of the pool, with a connection that deletes the rows. It is kept, because a new one costs more."""

    janitor: DatabaseJanitor
    connection: psycopg.Connection


_END_OTHER_CONNECTIONS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Each change of a schema adds, removes or replaces rows of these catalogs.
_SCHEMA = """
    SELECT count(*), max(xmin::text::bigint)
      FROM (SELECT xmin FROM pg_class UNION ALL SELECT xmin FROM pg_attribute UNION ALL SELECT xmin FROM pg_constraint
            UNION ALL SELECT xmin FROM pg_trigger UNION ALL SELECT xmin FROM pg_proc) AS rows
"""


def _schema(connection: psycopg.Connection) -> tuple[object, ...] | None:
    """Return a value that is the same for two databases whose schemas were copied from the same one."""
    return connection.execute(_SCHEMA).fetchone()


def _delete_rows(connection: psycopg.Connection) -> Iterator[sql.Composable]:
    """Yield the statements that bring a database back to the state after its migrations."""
    yield sql.SQL("SET session_replication_role = replica")  # foreign keys are not checked: any order will do
    for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
        if table != "schema_migrations":
            yield sql.SQL("DELETE FROM {}").format(sql.Identifier(table))
    for (sequence,) in connection.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
        yield sql.SQL("SELECT setval({}, 1, false)").format(sql.Literal(sequence))


class _Janitor(DatabaseJanitor):
    """Creates a database by copying the files of its template, which takes less time than logging each page."""

    def _build_create_database_sql(self) -> sql.Composed:
        return super()._build_create_database_sql() + sql.SQL(" STRATEGY FILE_COPY")


def _janitor(services: "Services", template: str) -> DatabaseJanitor:
    """Return what creates and drops a new database."""
    server = services.postgres
    return _Janitor(
        user="postgres",
        host="127.0.0.1",
        port=server.port,
        password=server.password,
        dbname=f"test_{next(_numbers)}",
        template_dbname=template,
    )


def empty_bucket(s3: "S3Client", bucket: str) -> int:
    """Delete all objects and multipart uploads of a bucket, and return the total size of the objects."""
    size = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if objects := page.get("Contents"):
            size += sum(item["Size"] for item in objects)
            s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": item["Key"]} for item in objects]})
    for uploads in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in uploads.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return size


class BucketPool:
    """Empty buckets. Each is lent to one test at a time.

    They are used again, because the first object of a new bucket takes 0.2 seconds.
    """

    _MAX_DELETED = 64 * 2**20  # bytes of deleted objects, which stay on disk until their bucket is deleted

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3
        self._used: list[str] = []

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the name of an empty bucket."""
        name = self._emptied() or self._new()
        try:
            yield name
        finally:
            self._used.append(name)  # it is emptied when it is lent again: late requests may still create objects

    def _emptied(self) -> str | None:
        """Empty a bucket that an earlier test has used, and return its name, or None if there is none."""
        while self._used:
            name = self._used.pop()
            if empty_bucket(self._s3, name) < self._MAX_DELETED:
                return name
            self._s3.delete_bucket(Bucket=name)
        return None

    def _new(self) -> str:
        """Create a bucket."""
        name = f"bucket-{next(_numbers)}"
        self._s3.create_bucket(Bucket=name)
        return name


def wait_until(condition: Callable[[], bool], seconds: float = 30.0, what: str = "the condition") -> None:
    """Wait for a condition, and fail the test if it is not true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} seconds for {what}")
        time.sleep(0.02)


def signal_another_thread(pid: int, signum: signal.Signals) -> None:
    """Send a signal to a process, so that the system delivers it to another thread than the main one, as it may."""
    threads = [thread.id for thread in psutil.Process(pid).threads() if thread.id != pid]
    os.kill(threads[-1], signum)  # Linux delivers a signal for a thread's id to that thread, if it takes the signal


def living_in(data_dir: Path) -> list[psutil.Process]:
    """Return the processes, other than zombies, whose working directory is in a data directory."""
    living = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(data_dir):
                living.append(process)
    return living


def tied(command: Sequence[str | Path], uid: str = "", gid: str = "") -> list[str | Path]:
    """Return a command that runs another one, which the system kills when the calling thread or process ends.

    So nothing is left behind by a run of the tests that is killed itself. Call it in the main thread. With `uid` and
    `gid` the other command runs as that account.
    """
    death = str(int(signal.SIGKILL))
    return [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), death, uid, gid, *command]


class Process:
    """A Python process that writes its output to a file, and that tests kill or terminate. It ends with the tests."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                tied([sys.executable, *command]),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that it has written to standard output and standard error."""
        return self._log.read_text()

    def kill(self) -> None:
        """End the process as a crash would, with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def terminate(self, signum: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Send a signal and return the exit code. Fails the test if the process does not end in time."""
        self._process.send_signal(signum)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end of the process and return the exit code. Fails the test if it does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the process did not end within {seconds:.0f} seconds:\n{self.log}") from None


class ServerProcess(Process):
    """A `datas3t server` in its own process. Started again with the same `port`, it has the same address."""

    def __init__(
        self,
        folder: Path,
        db_url: str,
        encryption_key: str,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process, with log and index cache in `folder`. `wait_ready` waits until it accepts calls."""
        self.port = port or free_ports(1)[0]
        settings = {
            "DB_URL": db_url,
            "ADDR": self.address,
            "CACHE_DIR": str(folder / "cache"),
            "ENCRYPTION_KEY": encryption_key,
        }
        log = folder / f"server-{self.port}.log"
        super().__init__(["-m", "datas3t", "server", *options], log, {**settings, **(environment or {})})

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://{self.address}"

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Wait until the server accepts calls."""
        wait_until(lambda: not self.running or self._is_ready(), seconds, "the server")
        assert self.running, f"the server ended:\n{self.log}"

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
            return bool(response.status == 200)
        return False


@contextlib.contextmanager
def running_server(
    folder: Path, db_url: str, encryption_key: str, options: Sequence[str] = ()
) -> Iterator[ServerProcess]:
    """Start a server process, yield it when it is ready, and kill it after the block."""
    server = ServerProcess(folder, db_url, encryption_key, options=options)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()
