"""The gRPC server: the contract's services, health and reflection, on a private unix socket behind the edge."""

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from datas3t.server.front.calls.admission import Admission
from datas3t.server.front.calls.observing import Servicing
from datas3t.server.front.rpc.interceptors import Calls
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Address, SettingsError

THREADS = 32
_LAST_SECONDS = 1.0
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108, and 104 on macOS

# Who watches the health service holds a thread: of these, not of the calls'. The library's way without threads can
# deadlock, where a status is set while a watcher leaves. It keeps the pool on its class: a process has one.
_WATCHERS = ThreadPoolExecutor(256, thread_name_prefix="health")

_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # 10,000 part URLs are 6 MB
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not shared
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class RpcServer:
    """grpcio with one servicer per service. `start`, then `close`."""

    def __init__(
        self, servicings: Sequence[Servicing], metrics: Metrics, admission: Admission, address: Address | None
    ) -> None:
        self._folder = _private_folder()
        self.socket = self._folder / "grpc"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="grpc")
        self._health = health.HealthServicer(experimental_non_blocking=False, experimental_thread_pool=_WATCHERS)
        self._server = grpc.server(self._threads, interceptors=[Calls(metrics, admission)], options=_OPTIONS)
        for servicing in servicings:
            servicing.add_to_server(servicing.servicer, self._server)
        self._names = [servicing.descriptor.full_name for servicing in servicings]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        self.port = self._bind(address) if address else None

    def start(self) -> None:
        self._server.start()
        for name in ("", *self._names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def say_not_serving(self) -> None:
        """Tells whoever asks or watches the health service."""
        self._health.enter_graceful_shutdown()

    def close(self) -> None:
        """Sends the last answers and ends all connections. Who watches health or reflection has a second to leave."""
        self._server.stop(_LAST_SECONDS).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _bind(self, address: Address) -> int:
        where = address if address.host else Address("::", address.port)
        try:
            return self._server.add_insecure_port(str(where))
        except RuntimeError:
            self.close()
            raise SettingsError(
                f"cannot listen on {address} for gRPC; choose another address with --grpc-addr"
            ) from None


def _private_folder() -> Path:
    """A new folder that only this user can enter (mkdtemp's mode), short enough for a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="datas3t-"))
    if len(str(folder)) > _LONGEST_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="datas3t-", dir="/tmp"))
    return folder
