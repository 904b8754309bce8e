"""The transfer engine and a loop of bare pycurl: the same ranges, in turns, on the same server; bytes are compared.

    python bench/engine.py [--rounds N] [--mib SIZE] [WORKLOAD ...]

Client and server share the machine, so the client's CPU time per request is the figure that is valid elsewhere too.
Ratios are those of the pair of each round, and above 1 if the engine is faster.
"""

import argparse
import hashlib
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pycurl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench.bare import Bare, cut
from bench.loopback import Loopback, loopback
from datas3t.transport import Engine, FileRange, FileSink, Request

SMALL = 10 << 10
CHUNK = 8 << 20
PART = 20 << 20


@dataclass(frozen=True)
class Measured:
    """What one turn of a contestant took.

    Attributes:
        seconds: The seconds.
        cpu: The CPU seconds of this process.
        latencies: The seconds of each request, if they were made one at a time.
    """

    seconds: float
    cpu: float
    latencies: list[float]


def small_gets(server: Loopback, parallelism: int, count: int, rounds: int) -> None:
    """Fetch random ranges of 10 KiB into memory."""
    engine, bare = Engine(), Bare(parallelism)
    seed = random.Random(5)  # the same ranges in every run
    starts = [seed.randrange(server.size - SMALL) for _ in range(count)]
    ranges = [range(start, start + SMALL) for start in starts]
    results: dict[str, list[bytes]] = {}

    def by_engine() -> list[float]:
        requests = [Request("GET", server.url, place.start, place.stop, server.etag) for place in ranges]
        results["engine"] = engine.fetch(requests, parallelism=parallelism)
        return []

    def by_bare() -> list[float]:
        results["bare"] = bare.fetch([(server.url, place) for place in ranges])
        return []

    contest(f"10 KiB GETs, {parallelism} in flight", by_engine, by_bare, rounds, count, "GET/s")
    with server.path.open("rb") as file:
        expected = [os.pread(file.fileno(), SMALL, start) for start in starts]
    assert results == {"engine": expected, "bare": expected}
    engine.close()


def single_gets(server: Loopback, count: int, rounds: int) -> None:
    """Fetch ranges of 10 KiB one at a time, as a loop of `get` does."""
    engine, bare = Engine(), Bare(1)
    seed = random.Random(6)
    places = [range(start, start + SMALL) for start in (seed.randrange(server.size - SMALL) for _ in range(count))]
    results: dict[str, list[bytes]] = {}

    def timed(name: str, get: Callable[[range], list[bytes]]) -> Callable[[], list[float]]:
        def measured_turn() -> list[float]:
            contents, latencies = [], []
            for place in places:
                began = time.perf_counter()
                contents += get(place)
                latencies.append(time.perf_counter() - began)
            results[name] = contents
            return latencies

        return measured_turn

    def get(place: range) -> list[bytes]:
        return engine.fetch([Request("GET", server.url, place.start, place.stop, server.etag)], parallelism=1)

    name = "10 KiB GETs, one at a time"
    contest(
        name,
        timed("engine", get),
        timed("bare", lambda place: bare.fetch([(server.url, place)])),
        rounds,
        count,
        "GET/s",
    )
    assert results["engine"] == results["bare"]
    engine.close()


def download(server: Loopback, rounds: int) -> None:
    """Download the whole object into a file."""
    engine, bare = Engine(), Bare(4)
    ranges = cut(server.size, CHUNK)
    paths = {name: server.path.with_name(name) for name in ("engine", "bare")}
    fds = {name: os.open(path, os.O_RDWR | os.O_CREAT) for name, path in paths.items()}
    for fd in fds.values():
        os.truncate(fd, server.size)

    def by_engine() -> list[float]:
        requests = (
            Request("GET", server.url, place.start, place.stop, server.etag, sink=FileSink(fds["engine"], place.start))
            for place in ranges
        )
        engine.run(requests, parallelism=4)
        return []

    def by_bare() -> list[float]:
        bare.download(server.url, ranges, fds["bare"])
        return []

    name = f"download of {server.size >> 20} MiB, ranges of 8 MiB, 4 in flight"
    contest(name, by_engine, by_bare, rounds, server.size / 1e6, "MB/s")
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in (server.path, *paths.values())}
    assert len(digests) == 1
    for name, path in paths.items():
        os.close(fds[name])
        path.unlink()
    engine.close()


def upload(server: Loopback, rounds: int) -> None:
    """Upload the whole object in parts, to a server that discards them."""
    engine, bare = Engine(), Bare(4)
    ranges = cut(server.size, PART)
    etags: dict[str | Callable[[bool], str], str] = {}
    with server.path.open("rb") as file:
        fd = file.fileno()

        def put(url: str) -> None:
            requests = (Request("PUT", f"{url}/{place.start}", body=FileRange(fd, place)) for place in ranges)
            engine.run(
                requests, parallelism=4, on_done=lambda request, response: etags.update({request.url: response.etag})
            )

        def by_engine() -> list[float]:
            put(server.sink)
            return []

        def by_bare() -> list[float]:
            bare.upload(server.sink, ranges, fd)
            return []

        name = f"upload of {server.size >> 20} MiB, parts of 20 MiB, 4 in flight"
        contest(name, by_engine, by_bare, rounds, server.size / 1e6, "MB/s")
        etags.clear()
        put(server.hashing)
        expected = [hashlib.sha256(os.pread(fd, len(place), place.start)).hexdigest() for place in ranges]
    assert [etags[f"{server.hashing}/{place.start}"] for place in ranges] == expected
    engine.close()


def contest(
    name: str,
    by_engine: Callable[[], list[float]],
    by_bare: Callable[[], list[float]],
    rounds: int,
    amount: float,
    unit: str,
) -> None:
    """Let both take turns, with the first one changing, and print medians with the least and the greatest value."""
    contestants = {"engine": by_engine, "bare": by_bare}
    turns: dict[str, list[Measured]] = {"engine": [], "bare": []}
    for number in range(rounds + 1):
        for each in sorted(contestants, reverse=bool(number % 2)):
            measured = turn(contestants[each])
            if number:  # the first round warms up
                turns[each].append(measured)
    print(f"\n{name}")
    for each, measured_turns in turns.items():
        rates = [amount / one.seconds for one in measured_turns]
        per = 1e6 / amount if unit == "GET/s" else 2**30 / 1e6 / amount
        cpu = statistics.median(one.cpu for one in measured_turns) * per
        line = f"  {each:7} {statistics.median(rates):9,.0f} {unit} ({min(rates):,.0f} to {max(rates):,.0f})"
        line += f"   client CPU {cpu:.1f} us per GET" if unit == "GET/s" else f"   client CPU {cpu:.2f} s per GiB"
        if latencies := sorted(latency * 1e6 for one in measured_turns for latency in one.latencies):
            p50, p99 = (latencies[len(latencies) * part // 100] for part in (50, 99))
            line += f"   p50 {p50:.0f} us, p99 {p99:.0f} us"
        print(line)
    ratios = sorted(b.seconds / a.seconds for a, b in zip(turns["engine"], turns["bare"], strict=True))
    cpus = sorted(b.cpu / a.cpu for a, b in zip(turns["engine"], turns["bare"], strict=True))
    print(
        f"  engine / bare: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}),"
        f" by CPU {statistics.median(cpus):.2f}",
        flush=True,
    )


def turn(contestant: Callable[[], list[float]]) -> Measured:
    """Measure one turn of a contestant."""
    began, cpu = time.perf_counter(), time.process_time()
    latencies = contestant()
    return Measured(time.perf_counter() - began, time.process_time() - cpu, latencies)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="small, single, download, upload; all")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--mib", type=int, default=1024)
    chosen = options.parse_args()
    workloads = chosen.workloads or ["small", "single", "download", "upload"]
    with loopback(chosen.mib << 20) as server:
        curl = pycurl.version.partition(" OpenSSL")[0]
        print(f"{curl}; GETs go to {server.kind}, PUTs to a server that discards them; {os.cpu_count()} cores")
        for workload in workloads:
            if workload == "small":
                for parallelism in (16, 64):
                    small_gets(server, parallelism, 10_000, chosen.rounds)
            elif workload == "single":
                single_gets(server, 2_000, chosen.rounds)
            elif workload == "download":
                download(server, chosen.rounds)
            elif workload == "upload":
                upload(server, chosen.rounds)


if __name__ == "__main__":
    main()
