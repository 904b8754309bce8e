"""What a call costs in Python before any code of ours runs: CPU of small servers that do one thing each.

    PYTHONPATH=. .venv/bin/python bench/floor.py [--rounds 3] [--seconds 2]

Each row adds one thing to an earlier one: HTTP or gRPC alone, a request that is a stream (so that a thread is taken
only by a whole request), a status other than OK, a thread, a statement of PostgreSQL in that thread. REST is called by
wrk, gRPC by the Go program in `grpcload/`, as in `bench/calls.py`, whose figures these explain.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from psycopg_pool import ConnectionPool

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench import nginx
from bench.calls import Row, build_grpcload, call_grpc, call_rest, cpu_seconds
from datas3t.embedded.stack import services

_STATEMENT = "SELECT id FROM datas3ts WHERE name = %s"
_METHOD = "floor.Floor/Call"

# What each server does, by the name of its row.
REST = {
    "aiohttp, 404": (),
    "aiohttp, a thread, 404": ("thread",),
    "aiohttp, a thread, a statement, 404": ("thread", "statement"),
}
GRPC = {
    "grpcio, a message each way": (),
    "grpcio, a stream of requests": ("stream",),
    "grpcio, a stream of requests, NOT_FOUND": ("stream", "abort"),
    "grpcio, a stream of requests, a thread, NOT_FOUND": ("stream", "abort", "thread"),
    "grpcio, a stream of requests, a thread, a statement, NOT_FOUND": ("stream", "abort", "thread", "statement"),
}


def main() -> None:
    """Measure, and print a Markdown table; with `--serve`, be one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--serve", nargs=3, metavar=("ROW", "PORT", "DB_URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        row, port, db_url = options.serve
        asyncio.run((_serve_rest if row in REST else _serve_grpc)(row, int(port), db_url))
        return
    figures: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        db_url = stack.enter_context(services(folder / "stack", durable=False)).db_url
        with ConnectionPool(db_url, min_size=1, max_size=1) as pool, pool.connection() as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS datas3ts (id int, name text PRIMARY KEY)")
        grpcload = build_grpcload(folder)
        rows = [*(REST if shutil.which("wrk") else ()), *(GRPC if grpcload else ())]
        servers = {row: stack.enter_context(_started(row, db_url)) for row in rows}
        for _ in range(options.rounds):
            for row, (process, address) in servers.items():
                for clients in (1, 16):
                    spent = cpu_seconds(process.pid)
                    calls = _call(row, address, clients, options.seconds, folder, grpcload)
                    spent = cpu_seconds(process.pid) - spent
                    figures.setdefault((row, clients), []).append(spent / calls * 1e3)
    print("| CPU ms a call | 1 client | 16 clients |\n|---|---|---|")
    for row in rows:
        print(f"| {row} | {' | '.join(f'{statistics.median(figures[row, clients]):.3f}' for clients in (1, 16))} |")


@contextmanager
def _started(row: str, db_url: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Run the server of a row, and yield its process and address."""
    port = nginx.free_port()
    command = [sys.executable, __file__, "--serve", row, str(port), db_url]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        try:
            nginx.wait_for(port)
            yield process, f"127.0.0.1:{port}"
        finally:
            process.kill()


def _call(row: str, address: str, clients: int, seconds: int, folder: Path, grpcload: Path | None) -> float:
    """Call the server of a row for some seconds, and return the number of calls."""
    if row in REST:
        missing = Row(row, 0, "/missing", None, "", b"")
        return call_rest(missing, address, clients, seconds, folder) * seconds
    assert grpcload is not None
    return call_grpc(grpcload, address, f"/{_METHOD}", b"missing", clients, seconds)["calls"]


def _work(row: str, db_url: str) -> Callable[[], Awaitable[None]]:
    """Return what a call of this row does before its response."""
    steps = (REST | GRPC)[row]
    threads = ThreadPoolExecutor(32)
    pool = ConnectionPool(db_url, min_size=1, max_size=16, open="statement" in steps)

    def in_thread() -> None:
        if "statement" in steps:
            with pool.connection() as conn:
                conn.execute(_STATEMENT, ("missing",)).fetchone()

    async def work() -> None:
        if "thread" in steps:
            await asyncio.get_running_loop().run_in_executor(threads, in_thread)

    return work


async def _serve_rest(row: str, port: int, db_url: str) -> None:
    work = _work(row, db_url)

    async def respond(_: web.BaseRequest) -> web.StreamResponse:
        await work()
        return web.json_response({"message": "missing"}, status=404)

    runner = web.ServerRunner(web.Server(respond, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def _serve_grpc(row: str, port: int, db_url: str) -> None:
    work, steps = _work(row, db_url), GRPC[row]

    async def unary(_request: bytes, context: Any) -> bytes:
        await work()
        if "abort" in steps:
            await context.abort(grpc.StatusCode.NOT_FOUND, "missing")
        return b""

    async def stream(_requests: Any, context: Any) -> bytes:
        return await unary(await context.read(), context)

    service, method = _METHOD.split("/")
    handler: Any = (
        grpc.stream_unary_rpc_method_handler(stream)
        if "stream" in steps
        else grpc.unary_unary_rpc_method_handler(unary)
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
