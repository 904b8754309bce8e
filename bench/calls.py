"""The CPU that calls cost the server, and how many it makes per second, over REST and over gRPC.

    PYTHONPATH=. .venv/bin/python bench/calls.py [--rounds 3] [--seconds 2] [--workers 1] [--before FOLDER]
                                                   [--only NAME...]

REST is called by wrk, gRPC by the Go program in `grpcload/`, each with 1 and with 16 clients. Without wrk or Go their
part is left out. `--before` measures the server of another checkout in turns with this one, on a database of its own.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench import data, nginx
from datas3t import v1
from datas3t.archive.index import Entry, encode
from datas3t.client import Client
from datas3t.embedded.stack import Services, services
from tests.support.stack import wait_until

_HERE = Path(__file__).resolve().parents[1]
_ROOTS = ("gen", "client", "server", "cli")
_FILL = """
INSERT INTO dataranges ({column}, first_key, last_key, data_object_key, index_object_key, size_bytes,
                        entries_size_bytes, data_etag, index_etag)
SELECT d.{of}, n * 2000, n * 2000 + 999, stem || '.tar', stem || '.index', 10485760, 10484736, md5(n::text), md5(stem)
  FROM datas3ts AS d, generate_series(0, %(count)s - 1) AS n,
       LATERAL (SELECT 'datas3t/' || d.name || '/dataranges/' || lpad((n * 2000)::text, 20, '0') || '-'
                       || lpad((n * 2000 + 999)::text, 20, '0') || '-' || lpad((n + 1)::text, 12, '0') AS stem) AS s
 WHERE d.name = %(name)s
"""
# The column of older schemas, and that of this one.
_COLUMN = (
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'dataranges'::regclass AND attname = 'catalogue_id')"
)
_CALLS = "datas3t_calls_total{"
_SIZES = {"hundred": 100, "thousand": 1_000, "tenthousand": 10_000, "real": 0} | {f"small{n}": 100 for n in range(6)}


@dataclass(frozen=True)
class Row:
    """A call over REST, the same over gRPC in `pages` calls, and the goal in CPU milliseconds."""

    name: str
    goal: float
    path: str
    body: dict[str, object] | None
    method: str
    request: bytes
    pages: int = 1


def _rows() -> list[Row]:
    def listing(name: str) -> tuple[str, None, str, bytes]:
        request = v1.ListDatarangesRequest(datas3t_name=name).SerializeToString()
        return f"/api/v1/dataranges?datas3t_name={name}", None, "DatarangeService/ListDataranges", request

    def download(name: str, last: int, first: int = 0) -> tuple[str, dict[str, object], str, bytes]:
        body: dict[str, object] = {"datas3t_name": name, "first_datapoint": first, "last_datapoint": last}
        request = v1.PresignDownloadRequest(datas3t_name=name, first_datapoint=first, last_datapoint=last)
        return "/api/v1/download", body, "DatarangeService/PresignDownload", request.SerializeToString()

    upload: dict[str, object] = {
        "datas3t_name": "small0", "first_datapoint_index": 10**9, "number_of_datapoints": 10, "data_size": 100_000,
    }  # fmt: skip
    bitmap = v1.GetDatapointsBitmapRequest(datas3t_name="tenthousand").SerializeToString()
    return [
        Row("a name that does not exist", 0.25, *listing("missing")),
        Row("list of 100 dataranges", 0.4, *listing("hundred")),
        Row("list of 10,000 dataranges", 15, *listing("tenthousand"), pages=10),
        Row("list of 10 datas3ts", 0.4, "/api/v1/datas3ts", None, "Datas3tService/ListDatas3ts", b""),
        Row("presign of a part of one datarange", 0.7, *download("real", 40, first=30)),
        Row("presign over 1,000 dataranges", 12, *download("thousand", 10**7)),
        Row(
            "start upload", 0.8, "/api/v1/upload-datarange", upload, "DatarangeService/StartUpload",
            v1.StartUploadRequest(**upload).SerializeToString(),  # type: ignore[arg-type]
        ),
        Row(
            "bitmap of 10,000 dataranges", 1.5, "/api/v1/datapoints-bitmap?datas3t_name=tenthousand", None,
            "Datas3tService/GetDatapointsBitmap", bitmap,
        ),
    ]  # fmt: skip


@dataclass
class Served:
    """A running server, and what was measured of it: seconds of CPU per call and calls per second, by row."""

    name: str
    process: "subprocess.Popen[bytes]"
    url: str
    grpc: str
    figures: dict[tuple[str, str, int], list[tuple[float, float]]] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)

    def cpu(self) -> float:
        """Return the seconds of CPU that the process has used so far."""
        return cpu_seconds(self.process.pid)

    def calls(self) -> float:
        """Return how many calls have ended so far, also those whose client did not wait for the end."""
        with closing(http.client.HTTPConnection(self.url)) as connection:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(_CALLS))

    @contextmanager
    def measured(self, row: Row, how: str, clients: int, pages: int = 1) -> Iterator[list[float]]:
        """Note the CPU that a call takes, and how many are made per second, which the block puts into the list."""
        calls, cpu, rate = self.calls(), self.cpu(), list[float]()
        yield rate
        cpu = self.cpu() - cpu
        ended = (self.calls() - calls) / pages
        self.figures.setdefault((row.name, how, clients), []).append((cpu / ended * 1e3, rate[0]))


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have used so far."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> None:
    """Measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="processes of the server; their CPU is added up")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    rows = [row for row in _rows() if not options.only or any(each in row.name for each in options.only)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(services(folder / "stack", durable=False))
        trees = {"now": _HERE} | ({"before": options.before.resolve()} if options.before else {})
        served = [
            stack.enter_context(_serving(name, tree, running, folder, options.workers)) for name, tree in trees.items()
        ]
        grpcload = build_grpcload(folder)
        for number in range(options.rounds):
            for row in rows:
                for each in served if number % 2 else reversed(served):
                    _measure(row, each, grpcload, options.seconds, folder)
            for each in served:
                _measure_uploads(each, 40)
                if grpcload:
                    _measure_latency(each, grpcload, rows[0], options.seconds)
    _report(rows, served)


@contextmanager
def _serving(name: str, tree: Path, running: Services, folder: Path, workers: int) -> Iterator[Served]:
    """Run the server of a checkout on a new database that has the rows of `_SIZES`."""
    url = urlsplit(running.db_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(running.db_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    ports = nginx.free_port(), nginx.free_port()
    own = folder / name
    own.mkdir()
    command = [sys.executable, "-c", "from datas3t.cli.main import main; main()", "server", "--db-url", url]
    command += ["--cache-dir", str(own), "--encryption-key", running.encryption_key, "--addr", f"127.0.0.1:{ports[0]}"]
    command += ["--grpc-addr", f"127.0.0.1:{ports[1]}"]
    command += ["--workers", str(workers)] if workers > 1 else []
    environment = {**os.environ, "PYTHONPATH": ":".join(str(tree / root) for root in _ROOTS)}
    with (own / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            served = Served(name, process, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
            wait_until(lambda: _is_ready(served.url), 60, "the server")
            _fill(url, served, running)
            yield served
        finally:
            process.terminate()


def _is_ready(address: str) -> bool:
    with suppress(OSError), closing(http.client.HTTPConnection(address)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def _fill(db_url: str, served: Served, running: Services) -> None:
    s3 = running.s3
    with Client(f"http://{served.url}") as client, psycopg.connect(db_url, autocommit=True) as conn:
        client.add_bucket(
            "local", endpoint=s3.endpoint, bucket=s3.bucket, access_key=s3.access_key, secret_key=s3.secret_key
        )
        row = conn.execute(_COLUMN).fetchone()
        column, of = ("catalogue_id", "catalogue_id") if row and row[0] else ("datas3t_id", "id")
        fill = _FILL.format(column=column, of=of).encode()
        # The servers share the bucket, so each upload needs a datas3t that only one of them has.
        for name, count in _SIZES.items():
            client.add_datas3t(name, bucket="local")
            conn.execute(fill, {"name": name, "count": count})
        client.add_datas3t(f"up-{served.name}", bucket="local")
        conn.execute("ANALYZE")
        conn.execute("UPDATE datas3ts SET upload_counter = %s WHERE name = 'real'", [1_000 * (served.name == "now")])
    with closing(http.client.HTTPConnection(served.url)) as connection:
        _upload(connection, "real", 0, 100)


def _measure(row: Row, served: Served, grpcload: Path | None, seconds: int, folder: Path) -> None:
    for clients in (1, 16):
        if shutil.which("wrk"):
            call_rest(row, served.url, clients, 1, folder)
            with served.measured(row, "REST", clients) as rate:
                rate.append(call_rest(row, served.url, clients, seconds, folder))
        if grpcload:
            with served.measured(row, "gRPC", clients, row.pages) as rate:
                result = _call_grpc(grpcload, served.url, row, clients, seconds)
                rate.append(result["calls"] / row.pages / seconds)


def call_rest(row: Row, address: str, clients: int, seconds: int, folder: Path) -> float:
    """Return how many calls a second wrk has made."""
    script = folder / "wrk.lua"
    script.write_text(f"wrk.method, wrk.body = 'POST', [[{json.dumps(row.body)}]]" if row.body else "")
    url = f"http://{address}{row.path}"
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", output)
    assert found, output
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    assert bool(refused) == ("missing" in row.path), f"{row.name}: {output}"
    return int(found[1]) / (float(found[2]) / (1_000 if found[3] == "ms" else 1))


def build_grpcload(folder: Path) -> Path | None:
    """Build the program that calls over gRPC; None without Go."""
    if shutil.which("go") is None:
        return None
    program = folder / "grpcload"
    subprocess.run(["go", "build", "-o", program, "."], cwd=Path(__file__).with_name("grpcload"), check=True)
    return program


def call_grpc(
    program: Path, address: str, method: str, request: bytes, clients: int, seconds: float
) -> dict[str, float]:
    """Return how many calls of a method were made, how many failed, and the median latency in ms."""
    command = [str(program), address, method, request.hex(), str(clients), str(seconds)]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def _call_grpc(program: Path, address: str, row: Row, clients: int, seconds: float) -> dict[str, float]:
    result = call_grpc(program, address, f"/datas3t.v1.{row.method}", row.request, clients, seconds)
    assert bool(result["failed"]) == ("missing" in row.path), f"{row.name}: {result}"
    return result


def _measure_latency(served: Served, program: Path, row: Row, seconds: int) -> None:
    """Measure the median latency of a call on the shared port, and on the port for gRPC alone."""
    for name, address in (("shared port", served.url), ("--grpc-addr", served.grpc)):
        result = _call_grpc(program, address, row, 1, seconds)
        served.latencies.setdefault(name, []).append(result["p50"])


def _measure_uploads(served: Served, count: int) -> None:
    """Measure small uploads, one after the other: the server's CPU, and how long a client waits."""
    connection = http.client.HTTPConnection(served.url)
    start = served.figures.setdefault(("a small upload, start to committed", "REST", 1), [])
    first = len(start) * count
    cpu = served.cpu()
    waited = sum(_upload(connection, f"up-{served.name}", key, 1) for key in range(first, first + count))
    start.append(((served.cpu() - cpu) / count * 1e3, count / waited))
    connection.close()


def _upload(connection: http.client.HTTPConnection, name: str, first: int, count: int) -> float:
    """Upload datapoints, and return the seconds that the two calls to the server took."""
    archive = data.archive(first, count, 100)
    index = encode([Entry(number * 1024, 1, 100) for number in range(count)])
    request = {"datas3t_name": name, "first_datapoint_index": first, "number_of_datapoints": count}
    began = time.perf_counter()
    started = _post(connection, "/api/v1/upload-datarange", request | {"data_size": len(archive)})
    seconds = time.perf_counter() - began
    for key, body in (("presigned_data_put_url", archive), ("presigned_index_put_url", index)):
        url = urlsplit(str(started[key]))
        s3 = http.client.HTTPConnection(url.netloc)
        s3.request("PUT", f"{url.path}?{url.query}", body)
        assert s3.getresponse().read() is not None
        s3.close()
    began = time.perf_counter()
    completion: dict[str, object] = {"datarange_upload_id": started["datarange_upload_id"]}
    _post(connection, "/api/v1/upload-datarange/complete", completion)
    return seconds + time.perf_counter() - began


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, object]) -> dict[str, object]:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content
    result: dict[str, object] = json.loads(content)
    return result


def _report(rows: Sequence[Row], served: Sequence[Served]) -> None:
    names = [each.name for each in reversed(served)]
    columns = [f"{name}, {clients} client{'s' * (clients > 1)}" for clients in (1, 16) for name in names]
    for how, allowance in (("REST", 0.0), ("gRPC", 0.15)):
        print(f"\n| {how}: CPU ms a call (calls/s) | {' | '.join(columns)} | goal |")
        print(f"|---|{'---|' * (len(columns) + 1)}")
        for row in rows:
            cells = [_cell(each, row.name, how, clients) for clients in (1, 16) for each in reversed(served)]
            if any(cells):
                print(f"| {row.name} | {' | '.join(cells)} | {row.goal + allowance:g} |")
    print(f"\n| | {' | '.join(names)} | goal |\n|---|{'---|' * (len(names) + 1)}")
    upload = "a small upload, start to committed"
    cells = [_cell(each, upload, "REST", 1) for each in reversed(served)]
    print(f"| {upload}: CPU ms (uploads/s, without the PUTs) | {' | '.join(cells)} | 4 |")
    for place in served[0].latencies:
        medians = [f"{statistics.median(each.latencies[place]):.2f}" for each in reversed(served)]
        print(f"| gRPC, {place}: p50 of a call, ms | {' | '.join(medians)} | |")


def _cell(served: Served, row: str, how: str, clients: int) -> str:
    figures = served.figures.get((row, how, clients))
    if not figures:
        return ""
    cpu, rate = (statistics.median(each) for each in zip(*figures, strict=True))
    return f"{cpu:.3g} ({rate:,.0f})"


if __name__ == "__main__":
    main()
