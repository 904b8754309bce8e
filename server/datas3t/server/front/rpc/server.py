"""The gRPC server: the contract's services, health and reflection, on a unix socket to which the edge relays."""

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from datas3t.server.front.calls import Service
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.rpc.interceptor import CallInterceptor
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Address, SettingsError

THREADS = 32  # calls that run at once; as many again run over REST
_CLOSE_SECONDS = 1.0  # for clients that watch health or reflection to end their streams
_MAX_SOCKET_PATH = 100  # bytes; Linux allows 108 and macOS 104

# Each client that watches the health service holds a thread, so these are not the threads of the calls. The library's
# mode without threads can deadlock if a status is set while a watcher leaves. It keeps the pool on its class, so all
# servers of a process share one.
_HEALTH_THREADS = ThreadPoolExecutor(256, thread_name_prefix="health")

_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # 10,000 part URLs are 6 MB
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.so_reuseport", 0),  # otherwise two servers could listen on one port, without an error
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class RpcServer:
    """Serves gRPC between `start` and `close`: on the unix socket `socket`, and with an address also on `port`.

    Raises:
        SettingsError: if the address cannot be used.
    """

    def __init__(
        self, services: Sequence[Service], metrics: Metrics, running: RunningCalls, address: Address | None
    ) -> None:
        self._folder = _private_folder()
        self.socket = self._folder / "grpc"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="grpc")
        self._health = health.HealthServicer(experimental_non_blocking=False, experimental_thread_pool=_HEALTH_THREADS)
        # The contract's services, and the two standard ones.
        self._server = grpc.server(self._threads, interceptors=[CallInterceptor(metrics, running)], options=_OPTIONS)
        for service in services:
            service.add_to_server(service.servicer, self._server)
        self._names = [service.descriptor.full_name for service in services]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        # The socket for the edge, and the port for gRPC alone.
        self._server.add_insecure_port(f"unix:{self.socket}")
        self.port = self._bind(address) if address else None

    def start(self) -> None:
        """Start serving, and report every service as healthy."""
        self._server.start()
        for name in ("", *self._names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def report_not_serving(self) -> None:
        """Report NOT_SERVING to the health service's clients, those that watch it included."""
        self._health.enter_graceful_shutdown()

    def close(self) -> None:
        """Send the last responses, then end all connections."""
        self._server.stop(_CLOSE_SECONDS).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _bind(self, address: Address) -> int:
        bound = address if address.host else Address("::", address.port)  # "::" is IPv4 as well
        try:
            return self._server.add_insecure_port(str(bound))
        except RuntimeError:
            self.close()
            raise SettingsError(
                f"cannot listen on {address} for gRPC; choose another address with --grpc-addr"
            ) from None


def _private_folder() -> Path:
    """Return a new folder that only this user may enter, as mkdtemp makes it, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="datas3t-"))
    if len(str(folder)) > _MAX_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="datas3t-", dir="/tmp"))
    return folder
