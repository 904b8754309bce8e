"""Calls of the server: how many per second, their latency, and how their time is spent."""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from bench import data, nginx
from bench.report import Goal, Report, short
from bench.served import CALL, S3, SIGNING, SQL
from bench.sites import Sites
from bench.stand import Stand, presigned
from bench.turns import Contestant
from bench.wide import EACH
from datas3t import v1
from datas3t.archive.index import Entry, encode
from datas3t.client import Client
from datas3t.transport import Engine, Request

_THREADS = 16
_HEAD = (
    "| call | calls/s | p50, ms | p99, ms | calls/s, 16 threads | p99, ms "
    "| SQL | S3 | signing | the server's other code | gRPC and the client | signing, us a URL |"
)


@dataclass(frozen=True)
class Call:
    """A kind of call to measure.

    Attributes:
        name: How the table names it.
        make: Makes one call, given its number, and returns its seconds.
        times: How many to make.
    """

    name: str
    make: Callable[[int], float]
    times: int


def server(report: Report, sites: Sites, _: int) -> None:
    """Measure each kind of call, one after the other and then in threads."""
    if not sites.fast:
        return
    report.title(
        "Calls of the server",
        "One client makes one call after the other, then from 16 threads. The shares are of the time that the client "
        "waits for one call at a time. The server runs in a process that measures each signature (CPU), each call to "
        "S3, each block that holds a database connection, and each call as a whole. Uploads have one datapoint and go "
        "to SeaweedFS. Their PUTs count only in the calls/s of the threads.",
    )
    report.say(_HEAD, "|---|" + "---|" * 11)
    signing: dict[bool, list[float]] = {True: [], False: []}
    with _serving(sites.stand) as (process, client):
        for call in _calls(sites, client):
            row, signatures, seconds = _measured(call, process)
            report.say(row)
            signing[signatures > 10].append(seconds * 1e6)
    report.goals(
        [
            Goal("signing: at most 40 us a URL, in calls with many", signing[True], at_most=40),
            Goal("the same in calls with a few, where the code is cold", signing[False], at_most=40),
        ]
    )


@contextmanager
def _serving(stand: Stand) -> Iterator[tuple[Contestant, Client]]:
    port = nginx.free_port()
    process = Contestant("bench.served:Served", stand.db_url, stand.encryption_key, stand.folder / "served", port)
    try:
        process.wait_ready()
        with Client(f"http://127.0.0.1:{port}") as client:
            yield process, client
    finally:
        process.close()


def _calls(sites: Sites, client: Client) -> list[Call]:
    wide = sites.wide
    assert sites.fast
    name, many = wide.name(sites.fast.place.name), min(1_000, wide.dataranges)
    warm = random.Random(3).sample(range(wide.dataranges), 50)
    many_times = max(10, min(1_000, sites.sizes.singly))

    def one(number: int) -> object:
        first = warm[number % len(warm)] * EACH + number % (EACH - 1)
        return client.presign_download(name, first, first + 1)

    return [
        Call("`StartUpload` and `CompleteUpload`", _uploads(client, "uploads"), many_times // 5),
        Call("`PresignDownload`, 1 datarange", _timed(one), many_times),
        Call(
            f"`PresignDownload`, {many:,} dataranges",
            _timed(lambda _: client.presign_download(name, 0, many * EACH - 1)),
            30,
        ),
        Call(
            f"`PresignDataranges`, {wide.dataranges:,} dataranges, all pages",
            _timed(lambda _: presigned(client, name)),
            10,
        ),
    ]


def _measured(call: Call, process: Contestant) -> tuple[str, float, float]:
    """Return the call's row of the table, the signatures of one call, and the seconds of one signature."""
    for number in range(-max(1, call.times // 10), 0):
        call.make(number)
    process.turn("spent")
    alone = [call.make(number) for number in range(call.times)]
    spent = process.turn("spent").spent
    began = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        by_threads = list(threads.map(call.make, range(call.times, 3 * call.times)))
    rate = len(by_threads) / (time.perf_counter() - began)
    total = sum(alone)
    parts = {kind: spent.get(kind, (0.0, 0))[0] for kind in (SQL, S3, SIGNING, CALL)}
    own = parts[CALL] - parts[SQL] - parts[S3] - parts[SIGNING]
    shares = [parts[SQL], parts[S3], parts[SIGNING], own, total - parts[CALL]]
    signatures = spent[SIGNING][1]
    cells = [
        short(len(alone) / total),
        *(short(1e3 * quantile(alone, part)) for part in (0.5, 0.99)),
        short(rate),
        short(1e3 * quantile(by_threads, 0.99)),
        *(f"{share / total:.0%}" for share in shares),
        short(parts[SIGNING] / signatures * 1e6),
    ]
    return f"| {call.name} | {' | '.join(cells)} |", signatures / len(alone), parts[SIGNING] / signatures


def quantile(seconds: list[float], part: float) -> float:
    """Return the quantile of these seconds."""
    return statistics.median(seconds) if part == 0.5 else sorted(seconds)[int(len(seconds) * part)]


def _timed(action: Callable[[int], object]) -> Callable[[int], float]:
    def make(number: int) -> float:
        began = time.perf_counter()
        action(number)
        return time.perf_counter() - began

    return make


def _uploads(client: Client, name: str) -> Callable[[int], float]:
    """Return a function that uploads one small datapoint, and returns the seconds without the PUTs."""
    client.add_datas3t(name, bucket="seaweedfs")
    engine, keys, stub = Engine(), count(), client.connection.datarange
    index = encode([Entry(0, 1, 100)])

    def make(_: int) -> float:
        key = next(keys)
        archive = data.archive(key, 1, 100)
        began = time.perf_counter()
        started = stub.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name, first_datapoint_index=key, number_of_datapoints=1, data_size=len(archive)
            )
        )
        seconds = time.perf_counter() - began
        puts = [
            Request("PUT", started.presigned_data_put_url, body=archive),
            Request("PUT", started.presigned_index_put_url, body=index),
        ]
        engine.run(puts, parallelism=2)
        began = time.perf_counter()
        stub.CompleteUpload(v1.CompleteUploadRequest(datarange_upload_id=started.datarange_upload_id))
        return seconds + time.perf_counter() - began

    return make
