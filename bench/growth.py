"""How the cost of the server's calls grows with the number of dataranges.

    python -m bench.growth [--sizes 1000,10000,100000,1000000] [--only presign]

For each size, a database of its own has a datas3t with that many dataranges, inserted by SQL, beside one of at most
10,000 dataranges and some empty ones. The server's functions are called in this process. Printed are the time of a
call, the CPU time of this process, and that of PostgreSQL, which is counted in ticks of 10 ms. The exponent is fitted
to the sum of both: 0 is flat, 1 is linear. Larger sizes are left out where a call takes more than 5 seconds.
"""

import argparse
import contextlib
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import psycopg
from psycopg import sql

from datas3t.archive import join
from datas3t.embedded.stack import Services, services
from datas3t.server import buckets, dataranges, datas3ts, downloads, optimize, reaper, uploads
from datas3t.server.credentials import Cipher
from datas3t.server.db import catalogues
from datas3t.server.db.datarange_columns import Columns
from datas3t.server.db.migrate import migrate
from datas3t.server.db.pool import connection, open_pool
from datas3t.server.errors import Failure
from datas3t.server.objects.index_cache import IndexCache
from datas3t.server.optimize.groups import Limits
from datas3t.server.optimize.proposals import best
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets

SIZES = "1000,10000,100000,1000000"
EACH = 10  # keys from one datarange to the next; there is no datapoint at the last one
NAME = "large"
PAGE = 1_000
REPEATS = 5
SECONDS = 0.5  # for which a call is repeated at least
MOST_SECONDS = 5.0  # after which a call is not repeated, and which one call may take before larger sizes are left out

_FILL = """
INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                        entries_size_bytes, data_etag, index_etag, created_at)
SELECT catalogue_id, n * 10, n * 10 + 8,
       format('datas3t/%%s/dataranges/%%s-%%s-%%s.tar', name, lpad((n * 10)::text, 20, '0'),
              lpad((n * 10 + 8)::text, 20, '0'), lpad(n::text, 12, '0')),
       format('datas3t/%%s/dataranges/%%s-%%s-%%s.index', name, lpad((n * 10)::text, 20, '0'),
              lpad((n * 10 + 8)::text, 20, '0'), lpad(n::text, 12, '0')),
       1049600, 1048576, md5(n::text), md5(n::text), now() - interval '10 days'
  FROM generate_series(0, %(size)s - 1) AS n, datas3ts WHERE name = 'large' OR (name = 'beside' AND n < 10000)
"""
# The constraint is checked once for all rows, which takes a tenth of the time.
_WITHOUT_CONSTRAINT = "ALTER TABLE dataranges DROP CONSTRAINT dataranges_never_overlap"
_WITH_CONSTRAINT = """
ALTER TABLE dataranges ADD CONSTRAINT dataranges_never_overlap EXCLUDE USING gist (
    int8range(catalogue_id, catalogue_id, '[]') WITH &&, int8range(first_key - 1, last_key) WITH &&)
"""
_QUEUE = """
INSERT INTO keys_to_delete (bucket_id, object_key, due_at, due_since)
SELECT s3_buckets.id, 'k/' || n, due, due
  FROM s3_buckets, generate_series(1, %(size)s) AS n,
       CAST(now() + (n - %(size)s / 2) * interval '1 second' AS timestamptz) AS due
"""


@dataclass(frozen=True)
class Cost:
    """What a call took, in seconds."""

    time: float
    own_cpu: float
    database_cpu: float


@dataclass(frozen=True)
class Site:
    """A server's resources on a database with `size` dataranges in the datas3t `large`."""

    resources: Resources
    size: int
    postgres: psutil.Process

    @property
    def middle(self) -> int:
        """A key in the middle."""
        return self.size // 2 * EACH

    def page_from(self, key: int) -> str:
        """Return the token of a page that starts after a key."""
        return str(key - 1) if key else ""


Call = Callable[[Site], object]


def start(site: Site, first: int) -> None:
    """Start an upload of one datapoint, which a datarange at its key refuses."""
    try:
        uploads.start(site.resources, NAME, first, 1, 2048)
    except Failure:
        return


def clear_in_background(site: Site) -> None:
    """Do what the reaper does after a clear, before it deletes objects."""
    with connection(site.resources.pool) as conn:
        while catalogues.delete_some(conn, reaper.BATCH):
            continue


def random_columns(count: int) -> Columns:
    """Return dataranges for the planner, which takes its time where archives are neighbours and differ in size."""
    source = np.random.default_rng(1)
    entries = (10 ** source.uniform(3, 9, count)).astype(np.int64) // 512 * 512
    firsts = np.arange(count, dtype=np.int64) * EACH
    return Columns(np.column_stack([firsts, firsts + EACH - 1 - (np.arange(count) % 10 == 0)]), entries + 1024, entries)


def last_page(site: Site) -> int:
    """Return the key at which the last page starts."""
    return max(0, site.size - PAGE // 2) * EACH


REPEATED: dict[str, Call] = {
    "`PresignDataranges`, first page": lambda site: dataranges.presign(site.resources, NAME, None, None),
    "`PresignDataranges`, middle page": lambda site: dataranges.presign(
        site.resources, NAME, None, None, token=site.page_from(site.middle)
    ),
    "`PresignDataranges`, last page": lambda site: dataranges.presign(
        site.resources, NAME, None, None, token=site.page_from(last_page(site))
    ),
    "`PresignDownload`, first page": lambda site: downloads.presign(
        site.resources, NAME, 0, site.size * EACH - 2, size=PAGE
    ),
    "`PresignDownload`, middle page": lambda site: downloads.presign(
        site.resources, NAME, 0, site.size * EACH - 2, size=PAGE, token=site.page_from(site.middle)
    ),
    "`PresignDownload`, one datarange": lambda site: downloads.presign(
        site.resources, NAME, site.middle, site.middle + 8
    ),
    "`ListDataranges`, middle page": lambda site: dataranges.page(
        site.resources, NAME, PAGE, site.page_from(site.middle)
    ),
    "`ListDatas3ts`": lambda site: datas3ts.page(site.resources, 0, ""),
    "bitmap": lambda site: datas3ts.bitmap(site.resources, NAME),
    "`StartUpload`": lambda site: start(site, site.size * EACH),
    "`StartUpload`, refused": lambda site: start(site, site.middle),
    "the deletions of `/metrics`": lambda site: reaper.backlog(site.resources),
    "`PlanAggregates`": lambda site: optimize.plan(
        site.resources, NAME, min_score=None, target_size=0, max_size=0, max_operations=0
    ),
    "the planner, sizes from 1 KB to 1 GB, a gap after each tenth": lambda site: list(
        islice(best(random_columns(site.size), 1.0, Limits(1 << 30, 5 << 30), equal_parts=False), PAGE)
    ),
    "`join.plan`, a tenth as many sources": lambda site: join.plan([1 << 18] * (site.size // 10)),
}
ONCE: dict[str, Call] = {
    "`ClearDatas3t`": lambda site: datas3ts.clear(site.resources, NAME),
    "its rows, by the reaper": clear_in_background,
}


def measured(site: Site, call: Call, repeats: int) -> Cost:
    """Return the median time of several calls, and their mean CPU time."""
    times: list[float] = []
    began, before, cpu = time.perf_counter(), _cpu(site.postgres), time.process_time()
    while len(times) < repeats or (repeats > 1 and time.perf_counter() - began < SECONDS):
        wall = time.perf_counter()
        call(site)
        times.append(time.perf_counter() - wall)
        if time.perf_counter() - began > MOST_SECONDS:
            break
    own, database = time.process_time() - cpu, _cpu(site.postgres) - before
    return Cost(statistics.median(times), own / len(times), database / len(times))


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms, by least squares."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(each, 1e-6)) for each in seconds]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _cpu(postmaster: psutil.Process) -> float:
    """Return the CPU seconds of the processes of PostgreSQL that serve connections."""
    total = 0.0
    for process in postmaster.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "127.0.0.1" in " ".join(process.cmdline()):  # it is not one that works in the background
                times = process.cpu_times()
                total += times.user + times.system
    return total


@contextmanager
def filled(running: Services, size: int, folder: Path) -> Iterator[Site]:
    """Yield a site on a new database, which is dropped after the block."""
    name = f"growth_{size}"
    admin = running.postgres.url()
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = running.postgres.url(name)
    migrate(url)
    try:
        with open_pool(url, max_size=2) as pool:
            resources = Resources(pool, Buckets(), IndexCache(folder, 1 << 30), Cipher(running.encryption_key))
            s3 = running.s3
            buckets.add(resources, "local", s3.endpoint, s3.bucket, None, s3.access_key, s3.secret_key)
            for datas3t in ("beside", NAME, *(f"small-{number}" for number in range(8))):
                datas3ts.add(resources, datas3t, "local")
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(_WITHOUT_CONSTRAINT)
                conn.execute(_FILL, {"size": size})
                conn.execute(_WITH_CONSTRAINT)
                conn.execute(_QUEUE, {"size": size})
                conn.execute("VACUUM ANALYZE")
                row = conn.execute("SELECT pg_backend_pid()").fetchone()
                assert row is not None
                postmaster = psutil.Process(row[0]).parent()
            assert postmaster is not None
            yield Site(resources, size, postmaster)
    finally:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def table(sizes: Sequence[int], costs: dict[str, list[Cost]]) -> Iterator[str]:
    """Yield the lines of a table: for each row and size the time, and the CPU of this process and of PostgreSQL."""
    yield f"| ms (CPU of the server + of PostgreSQL) | {' | '.join(f'{size:,}' for size in sizes)} | exponent |"
    yield f"|---|{'---|' * len(sizes)}---|"
    for row, each in costs.items():
        if not each:
            continue
        cells = [f"{_ms(cost.time)} ({_ms(cost.own_cpu)} + {_ms(cost.database_cpu)})" for cost in each]
        cells += [""] * (len(sizes) - len(each))
        known = sizes[: len(each)]
        fitted = f"{exponent(known, [cost.own_cpu + cost.database_cpu for cost in each]):.2f}" if len(known) > 1 else ""
        yield f"| {row} | {' | '.join(cells)} | {fitted} |"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.2g}"


def main() -> int:
    """Run the command line, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help=f"dataranges, commas between (default {SIZES})")
    parser.add_argument("--only", default="", help="measure only rows with this text")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    costs: dict[str, list[Cost]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="datas3t-growth-", ignore_cleanup_errors=True) as folder,
        services(Path(folder) / "stack", durable=False) as running,
    ):
        for size in sizes:
            print(f"{size:,} dataranges", file=sys.stderr, flush=True)
            with filled(running, size, Path(folder) / f"cache-{size}") as site:
                for calls, repeats in ((REPEATED, REPEATS), (ONCE, 1)):
                    for row, call in calls.items():
                        earlier = costs[row]
                        is_slow = repeats > 1 and bool(earlier) and earlier[-1].time > MOST_SECONDS
                        if arguments.only in row and len(earlier) == sizes.index(size) and not is_slow:
                            earlier.append(measured(site, call, repeats))
    print(*table(sizes, costs), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
