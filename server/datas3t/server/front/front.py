"""All that answers calls, on one port: gRPC, REST and the operators' pages. It knows nothing behind the servicers."""

import json
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST

from datas3t.server.front.calls.admission import Admission
from datas3t.server.front.calls.observing import Servicing
from datas3t.server.front.edge import Edge
from datas3t.server.front.rest.answers import Answer
from datas3t.server.front.rest.app import Rest
from datas3t.server.front.rest.routes import Routes
from datas3t.server.front.rpc.server import RpcServer
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Address, Patience


class Front:
    """Listens from the moment it is made. `ready` raises where the server cannot do its work.

    Raises SettingsError where an address cannot be had, RouteError where the contract's routes contradict each other.
    """

    def __init__(
        self,
        servicings: Sequence[Servicing],
        metrics: Metrics,
        ready: Callable[[], object],
        *,
        addr: Address,
        grpc_addr: Address | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._admission = Admission()
        pages = {"/healthz": _alive, "/readyz": self._readiness, "/metrics": self._numbers}
        self._rest = Rest(Routes(servicings), pages, metrics, self._admission, patience)
        self._rpc = RpcServer(servicings, metrics, self._admission, grpc_addr)
        try:
            self._edge = Edge(addr, self._rpc.socket, self._rest, patience)
        except BaseException:
            self._rpc.close()
            raise

    @property
    def url(self) -> str:
        return self._edge.url

    @property
    def grpc_port(self) -> int | None:
        """The second port, where gRPC alone is spoken."""
        return self._rpc.port

    def start(self) -> None:
        self._rpc.start()
        self._edge.start()

    def drain(self, seconds: float) -> bool:
        """Takes no new calls, and says so to whoever comes; whether the running ones ended in time."""
        self._rpc.say_not_serving()
        return self._admission.close(seconds)

    def close(self) -> None:
        """Ends every connection, once what was answered is sent."""
        self._rpc.close()
        self._edge.close()

    def _readiness(self) -> Answer:
        if self._admission.closed:
            return _state(503, "draining")
        try:
            self._ready()
        except Exception:  # whatever it is, it is not ready
            return _state(503, "the database does not answer")
        return _state(200, "ready")

    def _numbers(self) -> Answer:
        return Answer(200, self._metrics.page(), CONTENT_TYPE_LATEST)


def _alive() -> Answer:
    return _state(200, "alive")


def _state(status: int, state: str) -> Answer:
    return Answer(status, json.dumps({"status": state}).encode())
