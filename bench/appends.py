"""What `append` costs, and how fast a writer brings datapoints into a bucket.

    PYTHONPATH=. python bench/appends.py [--seconds 5]

Each row is a program of its own that appends contents of one size for some seconds, then closes its writer, against
SeaweedFS. `append` is the caller's CPU time of one call without the uploads; the rates are those of the whole,
until everything is committed. The memory is what the program has at its peak above that at the first append.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.support.stack import running_server

Extra = Callable[[int], dict[str, Any]]

_EXTRAS: dict[str, Extra] = {
    "content alone": lambda _: {},
    "with a path": lambda number: {"path": f"folder/{number}.jpg"},
    "with a path and three columns": lambda number: {
        "path": f"folder/{number}.jpg",
        "label": "cat",
        "score": number / 7,
        "caption": f"the picture with number {number}",
    },
}
_ROWS = [(size, extra) for size in (1_000, 100_000) for extra in _EXTRAS] + [(10_000_000, "content alone")]


def append(url: str, name: str, size: int, extra: str, seconds: float) -> None:
    """Append for some seconds, and print a row of the table."""
    content, more = os.urandom(size), _EXTRAS[extra]
    count, cpu = 0, 0.0
    with Client(url) as client:
        out = client.writer(name, archive_size=64 << 20, table="labels")
        out.append(content, **more(0))
        out.flush()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            start = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
            for _ in range(max(1, 1_000_000 // size)):
                count += 1
                out.append(content, **more(count))
            cpu += time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - start
        out.close()
        took = time.monotonic() - began
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rates = f"{count / took:,.0f} | {count * size / took / 1e6:,.1f}"
    print(f"| {size:,} bytes, {extra} | {cpu / count * 1e6:,.1f} us | {rates} | {memory:.0f} MiB |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--append", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.append:
        url, name, size, extra = options.append
        return append(url, name, int(size), extra, options.seconds)
    print("| | append | datapoints/s | MB/s | memory |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with (
            services(path / "data", durable=False) as running,
            running_server(path, running.db_url, running.encryption_key) as server,
            Client(server.url) as client,
        ):
            s3 = running.s3
            keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
            client.add_bucket("local", endpoint=s3.endpoint, bucket=s3.bucket, **keys)
            for number, (size, extra) in enumerate(_ROWS):
                client.add_datas3t(f"bench-{number}", bucket="local")
                row = ["--append", server.url, f"bench-{number}", str(size), extra, "--seconds", str(options.seconds)]
                environment = {**os.environ, "XDG_STATE_HOME": str(path / "state")}
                subprocess.run([sys.executable, __file__, *row], check=True, env=environment)
                client.clear_datas3t(f"bench-{number}")
    return None


if __name__ == "__main__":
    main()
