"""A call whose caller was interrupted, as by Ctrl-C, ends at once: for the server, and for a fork that waits for it."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from datas3t import v1
from datas3t.client import Client
from datas3t.client._calls.fork import _gate
from tests.support.interrupts import Interrupted
from tests.support.stack import wait_until


class HangingServer(grpc.GenericRpcHandler):
    """Responds to no call before it is cancelled, except with one message where `responds_first` is set."""

    def __init__(self) -> None:
        self.responds_first = False
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.url = ""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = handler_call_details.method.rpartition("/")[2]

        def hang(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            ended = threading.Event()
            context.add_callback(ended.set)
            self.begun.append(name)
            if self.responds_first:
                yield b""
            ended.wait(60)
            self.cancelled.append(name)

        if name in ("Import", "GetDatapointsBitmap"):
            return grpc.unary_stream_rpc_method_handler(hang)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: list(hang(request, context)))


@pytest.fixture
def hanging() -> Iterator[HangingServer]:
    """Return a running server."""
    handler = HangingServer()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    handler.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler
    server.stop(0).wait()


CALLS: dict[str, Callable[[Client], object]] = {
    "ListBuckets": lambda client: client.list_buckets(),
    "CompleteUpload": lambda client: client.connection.datarange.CompleteUpload(v1.CompleteUploadRequest()),
    "Import": lambda client: client.import_datas3ts("any"),
    "GetDatapointsBitmap": lambda client: client.datapoints_bitmap("any"),
}


def interrupt(_signal: int, _frame: object) -> None:
    raise Interrupted


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Raise Interrupted in the main thread, by a signal, when the condition holds."""

    def send() -> None:
        wait_until(condition, what="the call begins")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before, sender = signal.signal(signal.SIGALRM, interrupt), threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("responds_first", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_is_cancelled(hanging: HangingServer, name: str, responds_first: bool) -> None:
    hanging.responds_first = responds_first
    with Client(hanging.url) as client:
        with pytest.raises(Interrupted), interrupted_when(lambda: hanging.begun == [name]):
            CALLS[name](client)
        wait_until(lambda: hanging.cancelled == [name], seconds=10, what="the server sees that the call is cancelled")
        wait_until(lambda: not _gate.in_flight, seconds=10, what="no fork waits for the call any more")
        assert hanging.begun == [name], "it is not made again"
