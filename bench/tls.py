"""What TLS costs the edge: CPU of the server's process for a call over REST and over gRPC, and for a new connection.

    PYTHONPATH=. .venv/bin/python bench/tls.py [--rounds 3] [--seconds 2]

The servicers do nothing, so that what is left is the front end. The servers with and without TLS take turns.
"""

import argparse
import http.client
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from datas3t import v1
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.certificates import Authority

_SERVER = """
import sys
from pathlib import Path
from datas3t.server.settings import TlsFiles
from tests.support.front import running_front
with running_front(tls=TlsFiles(*map(Path, sys.argv[1:])) if sys.argv[1:] else None) as front:
    print(front.address[1], flush=True)
    sys.stdin.read()
"""
_CLIENTS = 8


class Served:
    """A front end in a process of its own, and what its calls have cost."""

    def __init__(self, folder: Path, authority: Authority | None) -> None:
        files = authority.pair(folder) if authority else None
        arguments = [str(files.cert), str(files.key)] if files else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self._port = int(self._process.stdout.readline())
        self._cpu = psutil.Process(self._process.pid).cpu_times
        self._authority = authority
        self._context = ssl.create_default_context(cadata=authority.pem.decode()) if authority else None
        self.costs: dict[str, list[tuple[float, float]]] = {}

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def measure(self, name: str, client: Callable[[float], int], seconds: float) -> None:
        """Run clients for some seconds, and note the CPU milliseconds of each call, and the calls per second."""
        before, started = self._cpu(), time.monotonic()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            calls = sum(pool.map(client, [started + seconds] * _CLIENTS))
        after, elapsed = self._cpu(), time.monotonic() - started
        used = after.user + after.system - before.user - before.system
        self.costs.setdefault(name, []).append((1000 * used / calls, calls / elapsed))

    def rest(self, until: float) -> int:
        """Make calls over one connection, and return how many."""
        calls = 0
        connection = (
            http.client.HTTPSConnection("localhost", self._port, context=self._context)
            if self._context
            else http.client.HTTPConnection("localhost", self._port)
        )
        while time.monotonic() < until:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            calls += 1
        connection.close()
        return calls

    def rpc(self, until: float) -> int:
        """Do the same over gRPC."""
        calls, target, options = 0, f"localhost:{self._port}", [("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(self._authority.pem), options=options)
            if self._authority
            else grpc.insecure_channel(target, options=options)
        ) as channel:
            stub = BucketServiceStub(channel)
            while time.monotonic() < until:
                stub.AddBucket(v1.AddBucketRequest(name="x"))
                calls += 1
        return calls

    def connections(self, until: float) -> int:
        """Make one request over each new connection."""
        calls = 0
        while time.monotonic() < until:
            with socket.create_connection(("127.0.0.1", self._port)) as plain:
                sock = self._context.wrap_socket(plain, server_hostname="localhost") if self._context else plain
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while sock.recv(65_536):
                    pass
                sock.close()
            calls += 1
        return calls


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        both = {"plain": Served(Path(folder), None), "TLS": Served(Path(folder), Authority())}
        for number in range(options.rounds):
            for served in list(both.values())[:: 1 if number % 2 else -1]:
                served.measure("a page over HTTP/1.1", served.rest, options.seconds)
                served.measure("a call over gRPC", served.rpc, options.seconds)
                served.measure("a new connection with a page", served.connections, options.seconds)
        for served in both.values():
            served.close()
    print("| | CPU ms, plain | CPU ms, TLS | per second, plain | per second, TLS |")
    print("|---|---:|---:|---:|---:|")
    for name in both["plain"].costs:
        cells = [
            [statistics.median(each) for each in zip(*served.costs[name], strict=True)] for served in both.values()
        ]
        (plain, plain_rate), (tls, tls_rate) = cells
        print(f"| {name} | {plain:.3f} | {tls:.3f} | {plain_rate:,.0f} | {tls_rate:,.0f} |")


if __name__ == "__main__":
    main()
