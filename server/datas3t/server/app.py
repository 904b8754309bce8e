"""The server: puts everything together, starts it, and drains it when it is told to stop."""

import contextlib
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from types import FrameType

from datas3t.server import logs, reaper
from datas3t.server.credentials import Cipher
from datas3t.server.db import pool, s3_buckets
from datas3t.server.db.migrate import MigrationEdited, migrate
from datas3t.server.errors import Failure
from datas3t.server.front.front import Front
from datas3t.server.front.rpc.registry import servicers
from datas3t.server.index_cache import IndexCache
from datas3t.server.metrics import Metrics
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.server.settings import Settings, SettingsError

_log = logging.getLogger(__name__)
_OPEN_FILES = 65_536  # a relayed connection takes two

_CONNECTIONS = {
    "datas3t_database_connections": "Connections to the database",
    "datas3t_database_connections_idle": "Connections that no call uses",
    "datas3t_database_waiting": "Calls that wait for a connection",
}
_INDEX_CACHE = {
    "datas3t_index_cache_hits_total": "Reads of indices that the cache had",
    "datas3t_index_cache_misses_total": "Reads of indices that S3 was asked for",
    "datas3t_index_cache_bytes": "The size of the cache on disk",
}
_DELETIONS = {
    "datas3t_deletions_due": "Objects that are to be deleted now",
    "datas3t_deletions_failing": "Objects among them whose deletion has failed before",
    "datas3t_deletions_later": "Objects that are to be deleted when their URLs have ended",
    "datas3t_deletions_oldest_seconds": "For how long the oldest due deletion has been due",
}


class Server:
    """One server. `start` it once; `stop` may follow at any time, also after a start that failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._started = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Migrates, checks the encryption key, listens. Raises Failure, SettingsError and MigrationEdited."""
        settings = self._settings
        cipher = Cipher(settings.encryption_key)
        migrate(settings.db_url)
        with contextlib.ExitStack() as undo:
            connections = undo.enter_context(contextlib.closing(pool.open_pool(settings.db_url)))
            index_cache = _cache(settings)
            self._resources = Resources(
                connections, Buckets(), index_cache, cipher, settings.url_lifetime, scratch=settings.cache_dir
            )
            _check_key(self._resources)
            self._front = Front(
                servicers(self._resources),
                self._metrics(),
                self._ready,
                addr=settings.addr,
                grpc_addr=settings.grpc_addr,
            )
            undo.callback(self._front.close)
            self._front.start()
            self._reaper = reaper.Reaper(self._resources)
            self._reaper.start()
            self._closing = undo.pop_all()
            self._started = True
        _log.info("listening on %s", self.url)
        if self._front.grpc_port:
            _log.info("gRPC alone on port %d", self._front.grpc_port)

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        return self._front.url

    @property
    def grpc_port(self) -> int | None:
        return self._front.grpc_port

    @property
    def resources(self) -> Resources:
        return self._resources

    def wait(self) -> None:
        """Returns once the server was stopped."""
        self._stopped.wait()

    def stop(self) -> bool:
        """Takes no new calls, lets the running ones end; whether all did, within the settings' `drain`."""
        with self._lock:
            started, self._started = self._started, False
        if not started:
            return True
        seconds = self._settings.drain.total_seconds()
        deadline = time.monotonic() + seconds
        reaping = threading.Thread(target=self._reaper.stop, name="stop reaper", daemon=True)
        reaping.start()
        ended = self._front.drain(seconds)
        reaping.join(max(1.0, deadline - time.monotonic()))
        self._closing.close()
        self._stopped.set()
        return ended

    def _ready(self, seconds: float = 3.0) -> None:
        """Raises where the database does not answer: the pool tries each connection before it gives it away."""
        with self._resources.pool.connection(timeout=seconds):
            pass

    def _metrics(self) -> Metrics:
        metrics = Metrics()
        metrics.watch(_CONNECTIONS, self._connections)
        metrics.watch(_DELETIONS, self._deletions)
        metrics.watch(_INDEX_CACHE, self._index_cache)
        return metrics

    def _connections(self) -> Mapping[str, float]:
        numbers = self._resources.pool.get_stats()
        return {
            "datas3t_database_connections": numbers.get("pool_size", 0),
            "datas3t_database_connections_idle": numbers.get("pool_available", 0),
            "datas3t_database_waiting": numbers.get("requests_waiting", 0),
        }

    def _deletions(self) -> Mapping[str, float]:
        self._ready(1.0)  # the page does not wait for a database that is away
        backlog = reaper.backlog(self._resources)
        return {
            "datas3t_deletions_due": backlog.queued,
            "datas3t_deletions_failing": backlog.failing,
            "datas3t_deletions_later": backlog.later,
            "datas3t_deletions_oldest_seconds": backlog.oldest_seconds,
        }

    def _index_cache(self) -> Mapping[str, float]:
        numbers = self._resources.index_cache.numbers()
        return {
            "datas3t_index_cache_hits_total": numbers["hits"],
            "datas3t_index_cache_misses_total": numbers["misses"],
            "datas3t_index_cache_bytes": numbers["bytes"],
        }


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT, in the main thread; the exit code. A second signal ends it at once."""
    logs.configure(settings.log_level)
    allow_many_connections()
    told = _signalled()
    server = Server(settings)
    try:
        server.start()
    except (SettingsError, Failure, MigrationEdited) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    told.get()
    _log.info("stopping: no new calls, running ones have %s", settings.drain)
    if server.stop():
        _log.info("stopped")
        return 0
    _log.warning("stopped; some calls were cut off")
    logging.shutdown()
    os._exit(1)  # their threads would be waited for


def _signalled() -> "SimpleQueue[int]":
    """Gets the first signal. Not an Event: its lock may be held by the very thread that a handler interrupts."""
    told: SimpleQueue[int] = SimpleQueue()

    def tell(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        told.put(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, tell)
    return told


def allow_many_connections() -> None:
    """Raises this process's limit of open files as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _cache(settings: Settings) -> IndexCache:
    try:
        return IndexCache(settings.cache_dir, settings.max_cache_size)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(
            f"cannot use {settings.cache_dir} as the index cache: {why}; choose another --cache-dir"
        ) from None


def _check_key(resources: Resources) -> None:
    """Raises SettingsError where stored credentials were encrypted with another key."""
    after = ""
    while True:
        with pool.connection(resources.pool) as conn:
            rows = s3_buckets.page(conn, after, 1000)
        for row in rows:
            try:
                resources.cipher.decrypt(row.access_key)
            except ValueError:
                raise SettingsError(
                    f"this is not the encryption key with which the credentials of bucket configuration {row.name!r}"
                    " were stored; set --encryption-key or ENCRYPTION_KEY to that one"
                ) from None
        if not rows:
            return
        after = rows[-1].name
