"""The metrics that `/metrics` exports: calls, the process, the database pool, the deletions and the index cache."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)

# Seconds. The fastest calls take about a millisecond; an import or a large completion can take minutes.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Read = Callable[[], Mapping[str, float]]
ReadLabelled = Callable[[], Mapping[tuple[str, ...], float]]


class Metrics:
    """The metrics of one server, in registries of their own so that several servers can run in one process.

    Attributes:
        registry: The metrics of this process.
        shared: The metrics that are the same in all workers of a server, such as those about the database's content.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shared = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "transport")
        self._calls = Counter("datas3t_calls", "Calls that ended", (*labels, "code"), registry=self.registry)
        self._seconds = Histogram(
            "datas3t_call_seconds", "How long calls took", labels, buckets=_BUCKETS, registry=self.registry
        )
        self._running = Gauge("datas3t_calls_running", "Calls that run now", ("transport",), registry=self.registry)
        # Looking a child up by its labels takes longer than counting, and there are few of them.
        self._calls_of, self._seconds_of = cache(self._calls.labels), cache(self._seconds.labels)
        self._running_of = cache(self._running.labels)
        Info("datas3t_build", "The server's version", registry=self.registry).info({"version": version("datas3t")})

    def call_started(self, transport: str) -> None:
        """Count a call as running."""
        self._running_of(transport).inc()

    def call_ended(self, method: str, transport: str, code: str, seconds: float) -> None:
        """Count a call as ended, with its gRPC status code and how long it took."""
        self._running_of(transport).dec()
        self._calls_of(method, transport, code).inc()
        self._seconds_of(method, transport).observe(seconds)

    def watch(self, descriptions: Mapping[str, str], read: Read, *, shared: bool = False) -> None:
        """Export values that `read` returns each time the page is requested.

        `descriptions` maps the name of each metric to its help text. Names that end in `_total` are counters, all
        others are gauges. If `read` raises, its metrics are left out of the page. `shared` says that all workers of a
        server have the same values.
        """
        (self.shared if shared else self.registry).register(_Watched(descriptions, read))

    def watch_labelled(self, name: str, description: str, labels: Sequence[str], read: ReadLabelled) -> None:
        """Export a counter whose values by labels `read` returns each time the page is requested."""
        self.registry.register(_WatchedLabelled(name, description, labels, read))

    def page(self) -> bytes:
        """Return the page in Prometheus' text format. It may query the database, so do not call it on an event loop."""
        return generate_latest(self.registry) + generate_latest(self.shared)


def timely(read: Read, seconds: float) -> Read:
    """Return a function that calls `read` in a thread, and raises TimeoutError if that takes longer than `seconds`.

    If a call hangs, no other one is started before it has ended.
    """
    lock = threading.Lock()
    running: list[Future[Mapping[str, float]]] = []

    def run(future: "Future[Mapping[str, float]]") -> None:
        try:
            future.set_result(read())
        except Exception as error:
            future.set_exception(error)

    def read_in_time() -> Mapping[str, float]:
        with lock:
            if not running or running[0].done():
                future: Future[Mapping[str, float]] = Future()
                running[:] = [future]
                threading.Thread(target=run, args=[future], name="metrics", daemon=True).start()
            current = running[0]
        return current.result(seconds)

    return read_in_time


def remembered(read: Read, seconds: float) -> Read:
    """Return a function that calls `read`, and returns the same values for `seconds`."""
    lock = threading.Lock()
    values: Mapping[str, float] = {}
    until = 0.0

    def read_or_remember() -> Mapping[str, float]:
        nonlocal values, until
        with lock:
            if time.monotonic() >= until:
                values, until = read(), time.monotonic() + seconds
            return values

    return read_or_remember


class _Watched(Collector):
    def __init__(self, descriptions: Mapping[str, str], read: Read) -> None:
        self._descriptions = descriptions
        self._read = read

    def describe(self) -> list[Metric]:
        return []  # otherwise registering would call `read` before the server is ready

    def collect(self) -> Iterator[Metric]:
        try:
            values = self._read()
        except Exception as error:  # the other metrics are still wanted while the database is unreachable
            _log.debug("no %s: %s", ", ".join(self._descriptions), type(error).__name__)
            return
        for name, description in self._descriptions.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, description, value=values[name])


class _WatchedLabelled(Collector):
    def __init__(self, name: str, description: str, labels: Sequence[str], read: ReadLabelled) -> None:
        self._name = name
        self._description = description
        self._labels = labels
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._description, labels=self._labels)
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family
