"""The front: gRPC, REST and the operators' pages on one port.

It depends on the servicers, but not on the functions that they call.
"""

import json
import socket
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST

from datas3t.server.front.calls import Service
from datas3t.server.front.calls.guarded import OPEN, Guard
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.edge import Edge
from datas3t.server.front.rest import openapi
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.rest.responses import Response
from datas3t.server.front.rest.routes import Routes
from datas3t.server.front.rest.server import Page, RestServer
from datas3t.server.front.rpc.server import RpcServer
from datas3t.server.front.tls import Certificates
from datas3t.server.settings import Address, Timeouts, TlsFiles
from datas3t.server.telemetry.metrics import Metrics


class Front:
    """Listens as soon as it is created, and serves between `start` and `close`.

    Args:
        services: The services of the contract, each with its servicer.
        metrics: Where calls are counted; `/metrics` shows them.
        is_ready: Returns at once whether the server can do its work, for `/readyz` and the health service of gRPC.
        addr: The one port, for gRPC and HTTP/1.1.
        grpc_addr: A second port that serves only gRPC.
        timeouts: How long to wait for clients.
        cross_site: Which web pages may send requests; by default only those of this server.
        listening: Sockets on `addr` that several processes share, if there are any.
        tls: The files of the certificate, if both ports speak TLS.
        guard: Who may call what; by default everyone may call everything.
        metrics_token: Whether `/metrics` asks for a token as well.

    Raises:
        SettingsError: if an address or a file cannot be used.
        RouteError: if two routes of the contract contradict each other.
    """

    def __init__(
        self,
        services: Sequence[Service],
        metrics: Metrics,
        is_ready: Callable[[], bool],
        *,
        addr: Address,
        grpc_addr: Address | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        cross_site: CrossSite | None = None,
        listening: Sequence[socket.socket] = (),
        tls: TlsFiles | None = None,
        guard: Guard = OPEN,
        metrics_token: bool = False,
    ) -> None:
        self._metrics = metrics
        self._is_ready = is_ready
        self._running = RunningCalls(timeouts)
        routes = Routes(services, guard)
        described = Response(200, openapi.described(routes))  # once: it does not change
        pages = {
            "/openapi.json": Page(lambda: described),
            "/healthz": Page(_health_page),
            "/readyz": Page(self._readiness_page),
            "/metrics": Page(self._metrics_page, in_thread=True, admit=guard.identify if metrics_token else None),
        }
        rules = cross_site or CrossSite(addr)
        self._rest = RestServer(routes, pages, metrics, self._running, timeouts, rules)
        self._certificates = Certificates(tls) if tls else None
        self._rpc = RpcServer(
            services, metrics, self._running, is_ready, grpc_addr, timeouts, bool(listening), self._certificates, guard
        )
        try:
            self._edge = Edge(addr, self._rpc.socket, self._rest, timeouts, listening, self._certificates)
        except BaseException:
            self._rpc.close()
            raise

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        return self._edge.url

    @property
    def grpc_port(self) -> int | None:
        """The second port, which serves only gRPC, if there is one."""
        return self._rpc.port

    def start(self) -> None:
        """Start serving connections."""
        if self._certificates:
            self._certificates.start()
        self._rpc.start()
        self._edge.start()

    def drain(self, seconds: float) -> bool:
        """Refuse new calls, report not ready, and return whether all running calls ended within `seconds`."""
        self._rpc.report(serving=False)
        return self._running.drain(seconds)

    def close(self) -> None:
        """Send the last responses, then end all connections."""
        self._rpc.close()
        self._edge.close()
        self._running.close()
        if self._certificates:
            self._certificates.close()

    def _readiness_page(self) -> Response:
        if self._running.draining:
            return _status_page(503, "draining")
        if not self._is_ready():
            return _status_page(503, "the database does not respond")
        return _status_page(200, "ready")

    def _metrics_page(self) -> Response:
        return Response(200, self._metrics.page(), CONTENT_TYPE_LATEST)


def _health_page() -> Response:
    return _status_page(200, "alive")


def _status_page(code: int, status: str) -> Response:
    return Response(code, json.dumps({"status": status}).encode())
