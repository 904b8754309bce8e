"""Measure an import: archives in a bucket, and a database that knows none of them.

    PYTHONPATH=. python bench/imports.py [--archives 3000] [--size 4096] [--datapoints 3] [--folder DIR]

The import runs in this process, so its CPU time is that of the server. PostgreSQL and SeaweedFS run beside it.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from datas3t.archive import index, names, write
from datas3t.embedded.stack import S3, services
from datas3t.server import buckets, imports
from datas3t.server.credentials import Cipher
from datas3t.server.db.migrate import migrate
from datas3t.server.db.pool import open_pool
from datas3t.server.objects.index_cache import IndexCache
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets, Location
from datas3t.server.s3.presign import presign
from datas3t.transport import Engine, Request


def objects(archives: int, datapoints: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and the contents of all archives and indices."""
    for number in range(archives):
        first = number * datapoints
        keys = range(first, first + datapoints)
        content = os.urandom(size)
        entry = content + write.padding(size)
        data = b"".join(write.header(names.entry_name(key, "bin"), size) + entry for key in keys) + write.END
        step = 512 + len(entry)
        key = names.archive_key("many", first, keys[-1], number + 1)
        yield key, data
        yield names.index_key(key), index.encode(index.Entry(n * step, 1, size) for n in range(datapoints))


def put(location: Location, stored: Iterator[tuple[str, bytes]]) -> None:
    """Put objects into the bucket."""
    lifetime = timedelta(hours=1)
    requests = (Request("PUT", presign(location, "PUT", key, lifetime), body=body) for key, body in stored)
    with Engine() as engine:
        engine.run(requests, parallelism=16)


def measure(resources: Resources, archives: int) -> None:
    """Import the bucket, and print what it took."""
    cpu, started = time.process_time(), time.monotonic()
    steps = list(imports.run(resources, "local"))
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    skipped = sum(len(step.skipped) for step in steps)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| archives | skipped | seconds | archives/s | CPU of the server, ms an archive | peak RSS, MB |")
    print("|---|---|---|---|---|---|")
    rate, each = archives / elapsed, 1000 * cpu / archives
    print(f"| {archives} | {skipped} | {elapsed:.1f} | {rate:.0f} | {each:.2f} | {rss:.0f} |")


def serve(folder: Path, s3: S3, db_url: str, encryption_key: str, options: argparse.Namespace) -> None:
    """Fill the bucket and measure."""
    location = Location(s3.endpoint, s3.bucket, "us-east-1", s3.access_key, s3.secret_key)
    put(location, objects(options.archives, options.datapoints, options.size))
    migrate(db_url)
    with open_pool(db_url) as pool:
        cache = IndexCache(folder / "cache", 1 << 30)
        resources = Resources(pool, Buckets(), cache, Cipher(encryption_key), scratch=folder)
        buckets.add(resources, "local", s3.endpoint, s3.bucket, None, s3.access_key, s3.secret_key)
        measure(resources, options.archives)


def main() -> None:
    """Start the services and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--archives", type=int, default=3_000)
    parser.add_argument("--datapoints", type=int, default=3, help="in each archive")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a datapoint")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, services(Path(folder) / "stack") as running:
        serve(Path(folder), running.s3, running.db_url, running.encryption_key, options)


if __name__ == "__main__":
    main()
