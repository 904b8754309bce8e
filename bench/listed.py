"""The time that the server takes for a page of URLs or of a listing: with checksums, and without.

    PYTHONPATH=. .venv/bin/python bench/listed.py [--rounds 40]

To measure another checkout, name its roots first: PYTHONPATH=THERE/gen:THERE/client:THERE/server:.
The functions are called in this process. The database's part is the CPU of its process for the connection.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from datas3t.embedded.stack import services
from datas3t.server import buckets, dataranges, datas3ts
from datas3t.server.credentials import Cipher
from datas3t.server.db.migrate import migrate
from datas3t.server.db.pool import connection, open_pool
from datas3t.server.front.rpc.datarange import DatarangeServicer
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.v1 import PresignDatarangesRequest

try:
    from datas3t.server.objects.index_cache import IndexCache
except ModuleNotFoundError:  # an older checkout
    from datas3t.server.index_cache import IndexCache  # type: ignore[import-untyped, no-redef]

_FILL = """
    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                            entries_size_bytes, data_etag, index_etag)
    SELECT d.catalogue_id, n * 1000, n * 1000 + 999, stem || '.tar', stem || '.index', 10485760, 10484736,
           md5(n::text), md5(stem)
      FROM datas3ts AS d, generate_series(0, 9999) AS n,
           LATERAL (SELECT 'datas3t/' || d.name || '/dataranges/' || lpad((n * 1000)::text, 20, '0') || '-'
                           || lpad((n * 1000 + 999)::text, 20, '0') || '-' || lpad((n + 1)::text, 12, '0') AS stem) AS s
"""


def measure(call: Callable[[], object], backend: psutil.Process, rounds: int) -> tuple[float, float]:
    """Return the milliseconds of CPU that a call takes this process (the median), and the database (the mean)."""
    cpu, before = list[float](), sum(backend.cpu_times()[:2])
    for _ in range(rounds):
        used = time.process_time()
        call()
        cpu.append(time.process_time() - used)
    return 1000 * statistics.median(cpu), 1000 * (sum(backend.cpu_times()[:2]) - before) / rounds


def main() -> None:
    """Measure, and print a line for each call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, services(Path(folder) / "data", durable=False) as running:
        migrate(running.db_url)
        with open_pool(running.db_url, max_size=1) as pool:
            resources = Resources(
                pool, Buckets(), IndexCache(Path(folder) / "cache", 1 << 20), Cipher(running.encryption_key)
            )
            s3 = running.s3
            buckets.add(resources, "local", s3.endpoint, s3.bucket, None, s3.access_key, s3.secret_key)
            datas3ts.add(resources, "images", "local")
            with connection(pool) as conn:
                conn.execute(_FILL)
                conn.execute("ANALYZE")
                has_checksums = conn.execute(
                    "SELECT count(*) FROM pg_attribute WHERE attrelid = 'dataranges'::regclass"
                    " AND attname = 'checksums_etag'"
                ).fetchone() == (1,)
                (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone() or (0,)
            backend, servicer = psutil.Process(pid), DatarangeServicer(resources)
            for kind in ("without", "with") if has_checksums else ("without",):
                if kind == "with":
                    with connection(pool) as conn:
                        conn.execute("UPDATE dataranges SET checksums_etag = md5(data_etag), extension = 'jpg'")
                        conn.execute("VACUUM ANALYZE dataranges")
                columns = PresignDatarangesRequest(datas3t_name="images", columns=True, page_size=1000)
                in_rows = PresignDatarangesRequest(datas3t_name="images", page_size=1000)
                calls: dict[str, Callable[[], object]] = {
                    "URLs in columns": partial(servicer.PresignDataranges, columns, None),
                    "URLs in rows": partial(servicer.PresignDataranges, in_rows, None),
                    "listing as JSON": partial(dataranges.json_page, resources, "images", ""),
                }
                for name, call in calls.items():
                    server, database = measure(call, backend, rounds)
                    print(f"{name:16} {kind:8} server {server:6.2f} ms of CPU, database {database:6.2f}")


if __name__ == "__main__":
    main()
