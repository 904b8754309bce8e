"""The server: creates all parts, starts them, and shuts them down gracefully."""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping, Sequence

from datas3t.server import buckets, reaper
from datas3t.server.access import Audit, Authenticator
from datas3t.server.app import keyring
from datas3t.server.app.addresses import log_addresses, warn_if_open
from datas3t.server.credentials import Cipher
from datas3t.server.db import figures, pool
from datas3t.server.db.heartbeat import Heartbeat
from datas3t.server.db.migrate import migrate
from datas3t.server.front.calls.guarded import Guard
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.rpc.services import services
from datas3t.server.front.server import Front
from datas3t.server.intents import owners
from datas3t.server.objects.index_cache import IndexCache
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.server.s3.counts import COUNTS, SIGNED
from datas3t.server.s3.endpoints import AllowedEndpoints
from datas3t.server.settings import Settings, SettingsError
from datas3t.server.telemetry.metrics import Metrics, remembered, timely

_METRICS_SECONDS = 1.0  # that `/metrics` waits for the database: the other metrics can do without
_MIN_REAPER_SECONDS = 1.0  # for the reaper to stop, even if running calls used up the time to drain

_POOL = 16  # connections to the database, of all workers together
_MIN_POOL = 2  # of each worker

_CONNECTIONS = {
    "datas3t_database_connections": "Connections to the database",
    "datas3t_database_connections_idle": "Connections to the database that no call uses",
    "datas3t_database_waiting": "Calls that wait for a connection to the database",
}
_INDEX_READS = {
    "datas3t_index_cache_hits_total": "Index reads served from the cache",
    "datas3t_index_cache_misses_total": "Index reads that had to fetch from S3",
}
_INDEX_CACHE_SIZE = {"datas3t_index_cache_bytes": "Size of the index cache on disk"}
_OR_MORE = f"{reaper.MOST_COUNTED} means that many or more"
_DELETIONS = {
    "datas3t_deletions_due": f"Objects that are due for deletion; {_OR_MORE}",
    "datas3t_deletions_failing": f"Of these, objects whose deletion has failed before; {_OR_MORE}",
    "datas3t_deletions_later": f"Objects that will be deleted once their URLs have expired; {_OR_MORE}",
    "datas3t_deletions_oldest_seconds": "How long the oldest due deletion has been due",
}
_OTHER_KEYS = {
    "datas3t_credentials_of_other_keys": "Bucket configurations whose credentials do not use the first encryption key"
}
_UPLOADS = {
    "datarange_uploads": ("uploads", "Uploads"),
    "aggregate_uploads": ("aggregates", "Aggregates"),
    "table_uploads": ("table_uploads", "Uploads of files of tables"),
    "checksums_uploads": ("checksums_uploads", "Uploads of checksums"),
}
_UNFINISHED = {
    **{
        f"datas3t_{name}_open": f"{what} that were started and have not ended; {_OR_MORE}"
        for name, what in _UPLOADS.values()
    },
    **{
        f"datas3t_{name}_oldest_seconds": f"How long ago the oldest was started of: {what}"
        for name, what in _UPLOADS.values()
    },
}
_CATALOGUE = {
    "datas3t_datas3ts": "Datas3ts",
    "datas3t_dataranges": "Dataranges of all datas3ts",
    "datas3t_datapoints": "Datapoints of all datas3ts",
    "datas3t_bytes": "Bytes of the archives of all datas3ts",
}
_CATALOGUE_SECONDS = 60.0  # that the sums over all datas3ts are remembered


class Server:
    """One server. Call `start` once. `stop` may be called at any time, also after `start` failed.

    Args:
        settings: The settings.
        listening: Sockets that listen on the one port, if this is one of several workers, which share them. A worker
            only sweeps after a call of `reap`.
        metrics: Where calls are counted.
    """

    def __init__(
        self, settings: Settings, *, listening: Sequence[socket.socket] = (), metrics: Metrics | None = None
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._metrics = metrics or Metrics()
        self._reaper: reaper.Reaper | None = None
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
            connections = undo.enter_context(contextlib.closing(_open_pool(settings)))
            index_cache = _open_cache(settings)
            self._resources = Resources(
                connections,
                Buckets(),
                index_cache,
                cipher,
                settings.url_lifetime,
                scratch=settings.cache_dir,
                allowed_endpoints=AllowedEndpoints(settings.allow_endpoints),
            )
            keyring.check(self._resources)
            buckets.normalize_endpoints(self._resources)
            heartbeat = Heartbeat(settings.db_url)
            heartbeat.start()
            undo.callback(heartbeat.stop)
            authenticator = _authenticator(settings, connections)
            if authenticator is not None:
                undo.callback(authenticator.close)
            audit = _audit(settings)
            if audit is not None:
                undo.callback(audit.close)
            # Serve calls, and delete objects in the background.
            self._watch(self._metrics)
            self._front = Front(
                services(self._resources, authenticator),
                self._metrics,
                heartbeat.is_alive,
                addr=settings.addr,
                grpc_addr=settings.grpc_addr,
                cross_site=CrossSite(settings.addr, settings.cors_origins, settings.allowed_hosts),
                listening=self._listening,
                tls=settings.tls,
                guard=Guard(authenticator.identify if authenticator else None, owners(self._resources), audit),
                metrics_token=settings.access.metrics_asks,
            )
            undo.callback(self._front.close)
            self._front.start()
            if not self._listening:
                self.reap()
            # From here on, `stop` closes everything in reverse order.
            self._closing = undo.pop_all()
            self._started = True
        if not self._listening:
            log_addresses(self.url, self.grpc_port)
            warn_if_open(settings)

    def reap(self) -> None:
        """Start to delete objects in the background, if that has not been started yet."""
        if self._reaper is None:
            self._reaper = reaper.Reaper(self._resources)
            self._reaper.start()

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
        stopping = threading.Thread(target=self._stop_reaper, name="stop reaper", daemon=True)
        stopping.start()
        ended = self._front.drain(seconds)
        stopping.join(max(_MIN_REAPER_SECONDS, deadline - time.monotonic()))
        self._closing.close()
        self._stopped.set()
        return ended

    def _stop_reaper(self) -> None:
        if self._reaper is not None:
            self._reaper.stop()

    def _watch(self, metrics: Metrics) -> None:
        metrics.watch(_CONNECTIONS, self._connections)
        metrics.watch(_INDEX_READS, self._index_reads)
        metrics.watch(_INDEX_CACHE_SIZE, self._index_cache_size, shared=True)
        # All that the database knows is read together, so that a page waits once for a database that hangs.
        reads = (
            self._deletions,
            self._other_keys,
            self._open_uploads,
            remembered(self._catalogue, _CATALOGUE_SECONDS),
        )
        together = timely(lambda: {name: value for read in reads for name, value in read().items()}, _METRICS_SECONDS)
        metrics.watch(_DELETIONS | _OTHER_KEYS | _UNFINISHED | _CATALOGUE, together, shared=True)
        metrics.watch_labelled("datas3t_urls_signed_total", "URLs that clients got", ("method",), _signed)
        metrics.watch_labelled("datas3t_s3_calls_total", "Calls to S3 that ended", ("operation", "code"), COUNTS.read)

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

    def _other_keys(self) -> Mapping[str, float]:
        return {"datas3t_credentials_of_other_keys": keyring.others(self._resources)}

    def _open_uploads(self) -> Mapping[str, float]:
        with pool.connection(self._resources.pool) as conn:
            kinds = {_UPLOADS[each.kind][0]: each for each in figures.open_uploads(conn)}
        counts = {f"datas3t_{name}_open": float(each.count) for name, each in kinds.items()}
        return counts | {f"datas3t_{name}_oldest_seconds": each.oldest_seconds for name, each in kinds.items()}

    def _catalogue(self) -> Mapping[str, float]:
        with pool.connection(self._resources.pool) as conn:
            size = figures.catalogue_size(conn)
        return {
            "datas3t_datas3ts": size.datas3ts,
            "datas3t_dataranges": size.dataranges,
            "datas3t_datapoints": size.datapoints,
            "datas3t_bytes": size.bytes,
        }

    def _index_reads(self) -> Mapping[str, float]:
        cache = self._resources.index_cache
        return {"datas3t_index_cache_hits_total": cache.hits, "datas3t_index_cache_misses_total": cache.misses}

    def _index_cache_size(self) -> Mapping[str, float]:
        return {"datas3t_index_cache_bytes": self._resources.index_cache.bytes_used()}


def _signed() -> Mapping[tuple[str, ...], float]:
    return {(method,): count.read() for method, count in SIGNED.items()}


def _open_pool(settings: Settings) -> pool.Pool:
    """Open this server's share of the connections."""
    return pool.open_pool(settings.db_url, max_size=max(_MIN_POOL, _POOL // settings.workers))


def _authenticator(settings: Settings, connections: pool.Pool) -> Authenticator | None:
    """Return what recognizes callers, or None if nobody is asked for a token."""
    access = settings.access
    if not access.asks:
        return None
    jwt = None
    if access.oidc is not None:
        from datas3t.server.access.oidc import Oidc  # noqa: PLC0415 - takes time, and few servers have a provider

        jwt = Oidc(access.oidc).identify
    return Authenticator(connections, access.admin_token, jwt)


def _audit(settings: Settings) -> Audit | None:
    """Open the audit log, if there is one: without tokens nobody is known, and the log has all calls."""
    access = settings.access
    if not (access.asks or access.audit_log):
        return None
    try:
        return Audit(access.audit_log)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(f"cannot write {access.audit_log}: {why}; choose another --audit-log") from None


def _open_cache(settings: Settings) -> IndexCache:
    try:
        return IndexCache(settings.cache_dir, settings.max_cache_size)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(
            f"cannot use {settings.cache_dir} as the index cache: {why}; choose another --cache-dir"
        ) from None
