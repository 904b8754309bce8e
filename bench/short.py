"""Compare reads by a handle with bare pycurl in half a minute: nginx serves archives from memory, without a server.

    PYTHONPATH=. python bench/short.py [--rounds 9]

Both run in one process, in turns, and read the same datapoints of 10 KiB. Ratios are those of bare pycurl's time to
the handle's: of the least CPU of all rounds, and the median of the rounds by CPU and by the clock. 1 is as fast.
"""

import argparse
import contextlib
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench import data, front, nginx
from bench.bare import Bare, cut
from datas3t.archive import tar
from datas3t.archive.index import Entry, encode
from datas3t.client import Client
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.signed import Columns
from datas3t.client.handle import Datas3t

ARCHIVES, EACH, SIZE, CHOSEN = 6, 3_000, 10 << 10, 6_000
ENTRY = SIZE + 512
QUERY = "?X-Amz-Credential=" + "c" * 160 + "&X-Amz-Signature=" + "0" * 64
MILLISECONDS = 20
_MEMORY = "/dev/shm"
_SERVER = "server {{ listen 127.0.0.1:{port}; root {root}; open_file_cache max=100; location / {{ }} }}"

Read = Callable[[], object]


class Place:
    """The archives in a folder, which nginx serves at `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def handle(self, client: Client) -> Datas3t:
        """Return a handle that has a catalogue of the archives, as if a server had listed it."""
        columns = Columns()
        for number in range(ARCHIVES):
            paths = [self.folder / f"{number}.{kind}" for kind in ("tar", "index", "crc32c")]
            keys = number * EACH, number * EACH + EACH - 1
            columns.add(number + 1, *keys, EACH * ENTRY, list(map(self._url, paths)), list(map(_etag, paths)))
        handle, now = client.datas3t("short"), time.monotonic()
        handle._reader.catalogues._install(Catalogue(columns, Lifetime(now, math.inf, math.inf), now))
        return handle

    def content(self, key: int) -> tuple[str, range]:
        """Return URL and bytes of a content."""
        start = key % EACH * ENTRY + 512
        return self._url(Path(f"{key // EACH}.tar")), range(start, start + SIZE)

    def everything(self) -> list[tuple[str, range]]:
        """Return URLs and bytes of all archives, in ranges of 8 MiB."""
        urls = [self._url(Path(f"{number}.tar")) for number in range(ARCHIVES)]
        return [(url, part) for url in urls for part in cut(EACH * ENTRY, 8 << 20)]

    def _url(self, path: Path) -> str:
        return f"{self.url}/{path.name}{QUERY}"


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Write the archives, their indices and their checksums, and serve them."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        root = Path(folder)
        root.chmod(0o755)
        for number in range(ARCHIVES):
            path = root / f"{number}.tar"
            data.write_archive(path, number * EACH, EACH, SIZE)
            index = encode(Entry(at * ENTRY, 1, SIZE) for at in range(EACH))
            path.with_suffix(".index").write_bytes(index)
            path.with_suffix(".crc32c").write_bytes(tar.scan_file(path, checksums=True).checksums)
        with nginx.serving(_SERVER, root=root) as url:
            yield Place(root, url)


def compare(title: str, reads: dict[str, Read], rounds: int) -> None:
    """Run the reads in turns, and print the ratio of the last one's time to that of each of the others."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in reads}
    for number in range(rounds + 1):
        for name, read in reads.items():
            cpu, wall = time.process_time(), time.perf_counter()
            read()
            if number:
                spent[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    *names, base = reads
    for name in names:
        pairs = list(zip(spent[name], spent[base], strict=True))
        least = min(cpu for cpu, _ in spent[base]) / min(cpu for cpu, _ in spent[name])
        cpu, wall = (statistics.median(theirs[part] / ours[part] for ours, theirs in pairs) for part in (0, 1))
        print(f"| {title} | {name} | {least:.2f} | {cpu:.2f} | {wall:.2f} |")


def batches(keys: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return the keys in batches."""
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    keys = random.Random(1).sample(range(ARCHIVES * EACH), CHOSEN)
    print("| read | by | ratio: least CPU | median CPU | median time |", "|---|---|---|---|---|", sep="\n")
    with place() as near, Client("http://127.0.0.1:9", cache_dir=near.folder / "cache") as client:
        handle, one, many, four = near.handle(client), Bare(1), Bare(64), Bare(4)

        def by_handle() -> list[bytes]:
            return [content for batch in batches(keys, 1000) for content in handle.get_many(batch)]

        def by_pycurl() -> list[bytes]:
            return [content for batch in batches(keys, 1000) for content in many.fetch(list(map(near.content, batch)))]

        assert by_handle() == by_pycurl()
        compare("`get_many` of 1,000", {"get_many": by_handle, "pycurl": by_pycurl}, rounds)
        singles: dict[str, Read] = {
            "get": lambda: [handle.get(key) for key in keys[:1000]],
            "pycurl": lambda: [one.fetch([near.content(key)]) for key in keys[:1000]],
        }
        compare("`get`", singles, rounds)
        scans: dict[str, Read] = {
            "scan": lambda: sum(len(each.content) for each in handle.scan()),
            "scan(copy=False)": lambda: sum(len(each.content) for each in handle.scan(copy=False)),
            "pycurl": lambda: four.read(near.everything()),
        }
        compare("everything in order", scans, rounds)
        with front.delayed(near.url, MILLISECONDS) as url:
            far, small = Place(near.folder, url).handle(client), batches(keys[:1024], 64)
            read: dict[str, Read] = {
                "a `get_many` for each": lambda: list(map(far.get_many, small)),
                "batches": lambda: list(far.batches(small)),
                "one `get_many`": lambda: far.get_many(keys[:1024]),
            }
            compare(f"16 batches of 64, {MILLISECONDS} ms to the first byte, to one `get_many`", read, rounds)


def _etag(path: Path) -> str:
    status = path.stat()
    return f"{int(status.st_mtime):x}-{status.st_size:x}"


if __name__ == "__main__":
    main()
