"""The server: creates all parts, starts them, and shuts them down gracefully."""

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from datas3t.server import buckets, logs, reaper
from datas3t.server.credentials import Cipher
from datas3t.server.db import pool, s3_buckets
from datas3t.server.db.heartbeat import Heartbeat
from datas3t.server.db.migrate import MigrationEdited, migrate
from datas3t.server.errors import Failure
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.rpc.services import services
from datas3t.server.front.server import Front
from datas3t.server.index_cache import IndexCache
from datas3t.server.metrics import Metrics, timely
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.server.s3.counts import COUNTS
from datas3t.server.settings import Settings, SettingsError
from datas3t.text import escaped

_log = logging.getLogger(__name__)
Event = int | Exception | None  # a signal, an error of the start, or the end of the start
_OPEN_FILES = 65_536  # a relayed gRPC connection takes two
_METRICS_SECONDS = 1.0  # that `/metrics` waits for the database: the other metrics can do without
EXIT_SECONDS = 3.0  # after the time to drain, until the process ends whatever hangs
_LAST_EXIT_SECONDS = 1.0  # after that, until it ends even if no Python code runs any more
_START_SECONDS = 2.0  # for a start to end that a signal interrupts
_MIN_REAPER_SECONDS = 1.0  # for the reaper to stop, even if running calls used up the time to drain

_CONNECTIONS = {
    "datas3t_database_connections": "Connections to the database",
    "datas3t_database_connections_idle": "Connections to the database that no call uses",
    "datas3t_database_waiting": "Calls that wait for a connection to the database",
}
_INDEX_CACHE = {
    "datas3t_index_cache_hits_total": "Index reads served from the cache",
    "datas3t_index_cache_misses_total": "Index reads that had to fetch from S3",
    "datas3t_index_cache_bytes": "Size of the index cache on disk",
}
_OR_MORE = f"{reaper.MOST_COUNTED} means that many or more"
_DELETIONS = {
    "datas3t_deletions_due": f"Objects that are due for deletion; {_OR_MORE}",
    "datas3t_deletions_failing": f"Of these, objects whose deletion has failed before; {_OR_MORE}",
    "datas3t_deletions_later": f"Objects that will be deleted once their URLs have expired; {_OR_MORE}",
    "datas3t_deletions_oldest_seconds": "How long the oldest due deletion has been due",
}


class Server:
    """One server. Call `start` once. `stop` may be called at any time, also after `start` failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._started = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Migrate the database, check the encryption key, and serve. If it fails, it leaves nothing open.

        Raises:
            SettingsError: if a setting cannot be used.
            Failure: if the database cannot be used.
            MigrationEdited: if the database was migrated by migrations that differ from this server's.
        """
        settings = self._settings
        cipher = Cipher(settings.encryption_key)
        migrate(settings.db_url)
        with contextlib.ExitStack() as undo:
            # Open everything that calls need.
            connections = undo.enter_context(contextlib.closing(pool.open_pool(settings.db_url)))
            index_cache = _open_cache(settings)
            self._resources = Resources(
                connections, Buckets(), index_cache, cipher, settings.url_lifetime, scratch=settings.cache_dir
            )
            _check_encryption_key(self._resources)
            buckets.normalize_endpoints(self._resources)
            heartbeat = Heartbeat(settings.db_url)
            heartbeat.start()
            undo.callback(heartbeat.stop)
            # Serve calls, and delete objects in the background.
            self._front = Front(
                services(self._resources),
                self._metrics(),
                heartbeat.is_alive,
                addr=settings.addr,
                grpc_addr=settings.grpc_addr,
                cross_site=CrossSite(settings.addr, settings.cors_origins, settings.allowed_hosts),
            )
            undo.callback(self._front.close)
            self._front.start()
            self._reaper = reaper.Reaper(self._resources)
            self._reaper.start()
            # From here on, `stop` closes everything in reverse order.
            self._closing = undo.pop_all()
            self._started = True
        _log.info("listening on %s", self.url)
        if self._front.grpc_port:
            _log.info("listening for gRPC alone on port %d", self._front.grpc_port)

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        return self._front.url

    @property
    def grpc_port(self) -> int | None:
        """The second port, which serves only gRPC, if the settings have one."""
        return self._front.grpc_port

    @property
    def resources(self) -> Resources:
        """What calls work with, for code that calls the server's functions directly."""
        return self._resources

    def wait(self) -> None:
        """Block until the server has stopped."""
        self._stopped.wait()

    def stop(self) -> bool:
        """Drain, then stop. Return whether all running calls ended within the `drain` time of the settings."""
        with self._lock:
            started, self._started = self._started, False
        if not started:
            return True
        seconds = self._settings.drain.total_seconds()
        deadline = time.monotonic() + seconds
        # The reaper stops while calls drain, so that both have the whole time.
        stopping = threading.Thread(target=self._reaper.stop, name="stop reaper", daemon=True)
        stopping.start()
        ended = self._front.drain(seconds)
        stopping.join(max(_MIN_REAPER_SECONDS, deadline - time.monotonic()))
        self._closing.close()
        self._stopped.set()
        return ended

    def _metrics(self) -> Metrics:
        metrics = Metrics()
        metrics.watch(_CONNECTIONS, self._connections)
        metrics.watch(_DELETIONS, timely(self._deletions, _METRICS_SECONDS))
        metrics.watch(_INDEX_CACHE, self._index_cache)
        metrics.watch_labelled("datas3t_s3_calls_total", "Calls to S3 that ended", ("operation", "code"), COUNTS.read)
        return metrics

    def _connections(self) -> Mapping[str, float]:
        numbers = self._resources.pool.get_stats()
        return {
            "datas3t_database_connections": numbers.get("pool_size", 0),
            "datas3t_database_connections_idle": numbers.get("pool_available", 0),
            "datas3t_database_waiting": numbers.get("requests_waiting", 0),
        }

    def _deletions(self) -> Mapping[str, float]:
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


def run(settings: Settings) -> int:  # noqa: RET503 - `_exit` does not return
    """Serve until SIGTERM or SIGINT, and return the exit code. A second signal kills the process at once.

    After the first signal the process ends within the time to drain and 5 seconds, whatever hangs. It must be called in
    the main thread, because it installs signal handlers. That thread does nothing but wait for signals.
    """
    logs.configure(settings.log_level, settings.log_format)
    allow_many_connections()
    events = _Events()
    server = Server(settings)
    threading.Thread(target=_start, args=[server, events], name="start", daemon=True).start()
    event = events.next()
    if isinstance(event, int):  # a signal during the start
        timer = exit_after(_START_SECONDS)
        event = events.next()
        timer.cancel()
    elif event is None:
        events.next()
        _log.info("stopping: new calls are refused, running calls have %s to end", settings.drain)
    if isinstance(event, Exception):
        return _report(event)
    exit_after(settings.drain.total_seconds() + EXIT_SECONDS)
    _exit(server.stop())


def _start(server: Server, events: "_Events") -> None:
    """Start the server, and report that it is done, or the error."""
    try:
        server.start()
    except Exception as error:
        events.start_ended(error)
    else:
        events.start_ended(None)


def _report(error: Exception) -> int:
    """Print the error of a start, and return the exit code."""
    if not isinstance(error, SettingsError | Failure | MigrationEdited):
        raise error
    print(f"Error: {escaped(str(error))}", file=sys.stderr)
    return 1


def exit_after(seconds: float) -> threading.Timer:
    """End the process in `seconds`. Even a thread that never releases Python's lock cannot delay that for long."""
    timer = threading.Timer(seconds, _exit, [False])
    timer.daemon = True
    timer.start()
    null = open(os.devnull, "w")  # noqa: SIM115 - faulthandler writes the stack of every thread there
    faulthandler.dump_traceback_later(seconds + _LAST_EXIT_SECONDS, exit=True, file=null)
    return timer


def _exit(ended: bool) -> NoReturn:
    """End the process without waiting for threads, which may hang."""
    if ended:
        _log.info("stopped")
    else:
        _log.warning("stopped before all running calls ended")
    logging.shutdown()
    os._exit(0 if ended else 1)


class _Events:
    """What the main thread waits for: the end of the start, and the first SIGTERM and the first SIGINT.

    The system may deliver a signal to any thread. That does not wake a main thread that waits for a lock, so the
    handler would not run. But in every thread Python writes the signal's number to a pipe, which wakes its reader.
    """

    _STARTED = b"\0"  # no signal has this number

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._handle)

    def start_ended(self, error: Exception | None) -> None:
        """Report the end of the start."""
        self._error = error
        os.write(self._writer, self._STARTED)

    def next(self) -> Event:
        """Wait for the next event."""
        byte = os.read(self._reader, 1)
        return self._error if byte == self._STARTED else byte[0]

    @staticmethod
    def _handle(signum: int, _frame: FrameType | None) -> None:
        """Have a second signal kill the process."""
        signal.signal(signum, signal.SIG_DFL)


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open_cache(settings: Settings) -> IndexCache:
    try:
        return IndexCache(settings.cache_dir, settings.max_cache_size)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(
            f"cannot use {settings.cache_dir} as the index cache: {why}; choose another --cache-dir"
        ) from None


def _check_encryption_key(resources: Resources) -> None:
    """Raise SettingsError if the credentials in the database were encrypted with another key."""
    after = ""
    while True:
        with pool.connection(resources.pool) as conn:
            rows = s3_buckets.page(conn, after, 1000)
        for row in rows:
            try:
                resources.cipher.decrypt(row.access_key)
            except ValueError:
                raise SettingsError(
                    f"the credentials of bucket configuration {row.name!r} were encrypted with another encryption key;"
                    " set --encryption-key or ENCRYPTION_KEY to that key"
                ) from None
        if not rows:
            return
        after = rows[-1].name
