"""The gRPC server: the contract's services, health and reflection, on a unix socket to which `edge` relays connections.

It runs on an event loop in a separate thread. A client that opens calls and sends nothing only uses memory there, and
none of the threads that run calls.
"""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from datas3t.local.folders import private_folder
from datas3t.server.front.calls import Service
from datas3t.server.front.calls.guarded import OPEN, Guard
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.rpc.health import Health
from datas3t.server.front.rpc.interceptor import CallInterceptor
from datas3t.server.front.rpc.methods import Methods
from datas3t.server.front.rpc.reflection import Reflection
from datas3t.server.front.tls import Certificates, Loaded
from datas3t.server.settings import Address, SettingsError, Timeouts
from datas3t.server.telemetry.metrics import Metrics

MAX_MESSAGE = 16 * 2**20  # bytes of a request
MAX_METADATA = 16 * 2**10  # bytes of a call's metadata
MAX_STREAMS = 256  # calls at a time on one connection; further calls wait in the client
MAX_ARRIVING = 8192  # calls that have arrived and that the event loop has not taken yet
_CLOSE_SECONDS = 1.0  # for clients that watch health or reflection to end their streams
_IDENTITY_ONLY = 1  # the bit set of compression algorithms that contains only "none"

_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # 10,000 part URLs are 6 MB
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # From 1,000 arriving calls on, gRPC would cancel some at random; more than can wait are refused by name.
    ("grpc.server.max_pending_requests", MAX_ARRIVING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_ARRIVING),
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),  # a small message could become a huge one
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Result = TypeVar("Result")


class RpcServer:
    """Serves gRPC between `start` and `close`: on the unix socket `socket`, and also on `port` if an address is given.

    `shares_port` says that other processes listen on that port as well. With certificates, the port speaks TLS.

    Raises:
        SettingsError: The address cannot be used.
    """

    def __init__(
        self,
        services: Sequence[Service],
        metrics: Metrics,
        running: RunningCalls,
        is_ready: Callable[[], bool],
        address: Address | None,
        timeouts: Timeouts,
        shares_port: bool = False,
        certificates: Certificates | None = None,
        guard: Guard = OPEN,
    ) -> None:
        self._folder = private_folder()
        self.socket = self._folder / "grpc"
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_ignore_other_loops)
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        names = [service.descriptor.full_name for service in services]
        methods = Methods(running, guard)
        self._health = Health(names, is_ready, timeouts.request_body)
        reflection = Reflection(names, timeouts.idle_stream)
        handlers = [methods.handler(service) for service in services]
        handlers += [self._health.handler(), *reflection.handlers()]
        try:
            self._server, self.port = self._on_loop(
                self._create(
                    handlers,
                    CallInterceptor(metrics, timeouts.request_body),
                    address,
                    (*_OPTIONS, *_own_options(timeouts, shares_port)),
                    _credentials(certificates) if certificates else None,
                )
            )
        except BaseException:
            self._end_loop()
            raise

    def start(self) -> None:
        """Start serving, and report the result of `is_ready` as the health of every service."""
        self._on_loop(self._server.start())
        self.report(serving=True)

    def report(self, *, serving: bool) -> None:
        """Set the status of the health service, and send it to the clients that watch it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._health.report(serving=serving))

    def close(self) -> None:
        """Send the last responses, then end all connections. May be called again."""
        if not self._loop.is_closed():
            self._on_loop(self._server.stop(_CLOSE_SECONDS))
            self._end_loop()

    async def _create(
        self,
        handlers: list[grpc.GenericRpcHandler],
        interceptor: CallInterceptor,
        address: Address | None,
        options: Sequence[tuple[str, int]],
        credentials: grpc.ServerCredentials | None,
    ) -> tuple[grpc.aio.Server, int | None]:
        server = grpc.aio.server(interceptors=[interceptor], options=options)
        server.add_generic_rpc_handlers(handlers)
        # The socket for relayed connections, and the port that serves only gRPC.
        server.add_insecure_port(f"unix:{self.socket}")
        try:
            return server, _bind(server, address, credentials) if address else None
        except RuntimeError:
            await server.stop(None)
            raise SettingsError(
                f"cannot listen on {address} for gRPC; choose another address with --grpc-addr"
            ) from None

    def _on_loop(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end_loop(self) -> None:
        self._on_loop(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _cancel_others() -> None:
    """Cancel the remaining tasks of the loop, and wait for their end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CLOSE_SECONDS) if tasks else None


def _ignore_other_loops(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore errors of gRPC, which wakes the loops of all servers in a process though only one has a byte to read."""
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


def _own_options(timeouts: Timeouts, shares_port: bool) -> list[tuple[str, int]]:
    """Return the options that differ between servers."""
    return [
        ("grpc.so_reuseport", int(shares_port)),  # unless it is meant, a second server on the port is an error
        ("grpc.server_handshake_timeout_ms", round(timeouts.first_bytes * 1000)),
    ]


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials for gRPC, which asks for the certificate at each handshake."""
    given = certificates.loaded

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate if it is another one than before."""
        nonlocal given
        if certificates.loaded is given:
            return None
        given = certificates.loaded
        return _configuration(given)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type] # None says that nothing has changed
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.certificate)], loaded.client_ca)


def _bind(server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None) -> int:
    bound = str(address if address.host else Address("::", address.port))  # "::" includes IPv4
    return server.add_secure_port(bound, credentials) if credentials else server.add_insecure_port(bound)
