"""What `/metrics` tells: calls, and how the pool, the queue of deletions and the index cache are doing."""

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Read = Callable[[], Mapping[str, float]]


class Metrics:
    """The numbers of one server. Its registry is its own, so that many servers fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "transport")
        self._calls = Counter("datas3t_calls", "Calls that ended", (*labels, "code"), registry=self.registry)
        self._seconds = Histogram(
            "datas3t_call_seconds", "How long calls took", labels, buckets=_SECONDS, registry=self.registry
        )
        self._running = Gauge("datas3t_calls_running", "Calls that run now", ("transport",), registry=self.registry)
        Info("datas3t_build", "The server's version", registry=self.registry).info({"version": version("datas3t")})

    def began(self, transport: str) -> None:
        self._running.labels(transport).inc()

    def ended(self, method: str, transport: str, code: str, seconds: float) -> None:
        self._running.labels(transport).dec()
        self._calls.labels(method, transport, code).inc()
        self._seconds.labels(method, transport).observe(seconds)

    def watch(self, about: Mapping[str, str], read: Read) -> None:
        """Gauges, and counters (`…_total`), that `read` answers when the page is asked for; `about` explains them."""
        self.registry.register(_Readings(about, read))

    def page(self) -> bytes:
        """The page in Prometheus' text format. May ask the database: not for an event loop."""
        return generate_latest(self.registry)


class _Readings(Collector):
    def __init__(self, about: Mapping[str, str], read: Read) -> None:
        self._about = about
        self._read = read

    def describe(self) -> list[Metric]:
        return []  # registering reads nothing

    def collect(self) -> Iterator[Metric]:
        try:
            values = self._read()
        except Exception as error:  # the page also answers while the database is away
            _log.debug("no %s: %s", ", ".join(self._about), type(error).__name__)
            return
        for name, documentation in self._about.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, documentation, value=values[name])
