"""Tables of a million rows: appended, read, and datapoints found by the names of their files.

    PYTHONPATH=. python bench/tables.py [--rows 1000000]

Each line is one call: wall time, CPU time of the client, bytes fetched. Datapoints are not uploaded: the client is made
to believe that they are there.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datas3t.client import Client, KeySet
from datas3t.client._tables.files_rows import files_rows
from datas3t.client._tables.footers import Piece
from datas3t.client._tables.presence import Presence
from datas3t.client._tables.remote import Remote
from datas3t.client.handle import Datas3t
from datas3t.embedded.stack import services
from tests.support.stack import running_server

ARCHIVE = 80_000  # files of an archive of 256 MB
fetched: list[int] = []


def shown(what: str, call: Callable[[], Any]) -> Any:
    """Print what a call costs, and return its result."""
    fetched.clear()
    began, cpu = time.perf_counter(), time.process_time()
    result = call()
    wall, spent = time.perf_counter() - began, time.process_time() - cpu
    print(f"| {what} | {1000 * wall:,.1f} | {1000 * spent:,.1f} | {sum(fetched):,} |", flush=True)
    return result


def path(key: int) -> str:
    return f"photos/{key // 1000:04d}/{key * 2654435761 % 2**32:08x}.jpg"


def measure(client: Client, rows: int) -> None:
    photos = client.datas3t("photos")
    keys = np.arange(1, rows + 1)
    print("| what | ms | CPU ms | bytes fetched |\n|---|---|---|---|")
    for first in range(1, rows + 1, ARCHIVE):
        part = range(first, min(first + ARCHIVE, rows + 1))
        photos.table("files").append(
            files_rows(part, [path(key) for key in part], [1] * len(part), None, [0] * len(part))
        )
    random = np.random.default_rng(1)
    columns = {"key": keys, "group": keys // 1000, "score": random.random(rows), "other": random.random(rows)}
    shown(f"append {rows:,} rows of four numbers", lambda: photos.table("numbers").append(pa.table(columns)))

    def fresh() -> Datas3t:
        return client.datas3t("photos")

    shown("read all of it", lambda: fresh().table("numbers").read())
    shown("read one column of it", lambda: fresh().table("numbers").read(["score"]))
    where = pc.field("group") == rows // 2000
    shown("read one column where another has a value", lambda: fresh().table("numbers").read(["score"], where=where))
    middle = rows // 2
    shown("find, of a handle whose footers are nowhere", lambda: fresh().find(path(middle)))
    handle = fresh()
    shown("find, of a handle whose footers are on disk", lambda: handle.find(path(middle)))
    shown("find again, another name near it", lambda: handle.find(path(middle + 7)))
    shown("find again, another name far away", lambda: handle.find(path(7)))
    names = [path(int(key)) for key in random.integers(1, rows, 1000)]
    shown("find_many, 1,000 names at random", lambda: fresh().find_many(names))
    shown("paths of 1,000 neighbours", lambda: fresh().paths(range(middle, middle + 1000)))
    shown("glob of a folder of 1,000", lambda: fresh().glob(f"photos/{middle // 1000:04d}/*"))
    shown("glob of a sixteenth of all files", lambda: fresh().glob("**/*7.jpg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    fetch = Remote.fetch

    def counting(remote: Remote, pieces: Sequence[Piece]) -> list[bytes]:
        fetched.append(sum(stop - start for _, start, stop in pieces))
        return fetch(remote, pieces)

    everything = KeySet.of([(1, rows)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with (
            services(folder / "stack") as running,
            running_server(folder / "server", running.db_url, running.encryption_key) as server,
            Client(server.url, cache_dir=folder / "cache") as client,
            patch.object(Remote, "fetch", counting),
            patch.object(Presence, "within", lambda *_: everything),
            patch.object(Presence, "mask", lambda _, keys: everything.mask(keys)),
        ):
            s3 = running.s3
            client.add_bucket(
                "local", endpoint=s3.endpoint, bucket=s3.bucket, access_key=s3.access_key, secret_key=s3.secret_key
            )
            client.add_datas3t("photos", bucket="local")
            measure(client, rows)


if __name__ == "__main__":
    main()
