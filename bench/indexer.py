"""How fast an archive is checked and indexed: ours beside Python's tarfile, GNU tar's listing and a program in C.

    python bench/indexer.py [--entries 1000000] [--rounds 3] [--only T1,T2] [--folder DIR]

Seconds are those of the CPU, user and system: what else runs on the machine blurs them least. Each measurement is a
process of its own, on a warm page cache, the contestants in turns. `first` is ours with the import of numpy, `ours` the
same again in that process. Contents are holes: an archive takes a few kB of disk per entry.
"""

import argparse
import hashlib
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from datas3t.archive import names, tar
from datas3t.archive.index import RECORD, padded
from tests.support.tars import pax, raw_header

END = bytes(1024)
Shape = Iterator[tuple[bytes, int]]
"""Header blocks and content size of each entry."""


def plain(count: int, size: int) -> Shape:
    for key in range(count):
        yield raw_header(names.entry_name(key, "bin").encode(), size), size


def extended(count: int) -> Shape:
    """As Python's tarfile writes files by default: a PAX header with the time of each."""
    for key in range(count):
        times = pax({b"mtime": b"%d.%07d" % (1_700_000_000 + key, key % 10_000_000)})
        yield times + raw_header(names.entry_name(key, "bin").encode(), 100), 100


def libarchive(count: int) -> Shape:
    """Sizes of all sorts, median 300 bytes, in numbers that end with a blank."""
    source = random.Random(5)
    for key in range(count):
        size = int(source.lognormvariate(5.7, 0.6))
        yield raw_header(names.entry_name(key, "bin").encode(), size, size_field=b"%011o " % size), size


def mixed(count: int) -> Shape:
    source = random.Random(3)
    for key in range(count):
        size = source.randrange(68_000)
        yield raw_header(names.entry_name(key, "bin").encode(), size), size


ARCHIVES: dict[str, tuple[str, int, Callable[[int], Shape]]] = {
    "T1": ("{} entries of 100 bytes", 1, lambda count: plain(count, 100)),
    "T2": ("{} entries of 100 bytes, a PAX header each", 1, extended),
    "T3": ("{} entries of 34 KB on average", 10, mixed),
    "T4": ("{} entries of 1 MiB", 500, lambda count: plain(count, 1 << 20)),
    "T5": ("{} entries of 300 bytes at the median, by libarchive", 1, libarchive),
}


def make(path: Path, shape: Shape) -> None:
    """Contents are holes, which read as zeros: nobody looks at them."""
    with path.open("wb") as out:
        for headers, size in shape:
            out.write(headers)
            out.seek(padded(size), 1)
        out.write(END)


def by_tarfile(path: Path) -> bytes:
    index, position = bytearray(), 0
    with tarfile.open(path) as archive:
        while member := archive.next():
            names.parse_entry_name(member.name.encode())
            index += RECORD.pack(position, (member.offset_data - position) // 512, member.size >> 32, member.size)
            position = member.offset_data + padded(member.size)
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
    return bytes(index)


def ours(path: Path) -> bytes:
    return tar.scan_file(path).index


WORKERS = {"tarfile": by_tarfile, "ours": ours}


def work(who: str, path: Path) -> None:
    """In a process of its own: prints seconds of a first and a second run, the peak RSS in MB, and the index's hash."""
    seconds = []
    for _ in range(2 if who == "ours" else 1):
        index = b""  # not two of them at once
        started = time.process_time()
        index = WORKERS[who](path)
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps({"seconds": seconds, "peak": peak, "index": hashlib.sha256(index).hexdigest()}))


def run(who: str, path: Path) -> dict[str, float]:
    """Seconds by column, and `peak`; checks that the index is the one that the archive's first contestant made."""
    found: dict[str, float] = {}
    if who in WORKERS:
        done = subprocess.run([sys.executable, __file__, "--work", who, path], check=True, capture_output=True)
        result = json.loads(done.stdout)
        found = {who: result["seconds"][-1]}
        if who == "ours":
            found |= {"first": result["seconds"][0], "peak": result["peak"]}
        agree(path, result["index"])
    else:
        index = path.with_suffix(".index")
        command = (
            ["tar", "-tf", str(path)] if who == "tar -t" else [str(path.parent / "ceiling"), str(path), str(index)]
        )
        started = children()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = {who: children() - started}
        if who == "C":
            agree(path, hashlib.sha256(index.read_bytes()).hexdigest())
    return found


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


_indices: dict[Path, str] = {}


def agree(path: Path, digest: str) -> None:
    if _indices.setdefault(path, digest) != digest:
        sys.exit(f"the indices of {path.name} differ")


def contestants(folder: Path) -> list[str]:
    found = ["tarfile", "ours"]
    if shutil.which("tar"):
        found.append("tar -t")
    if compiler := shutil.which("cc"):
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O2", "-o", folder / "ceiling", source], check=True)
        found.append("C")
    return found


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})" if values else "-"


def measure(path: Path, who: list[str], rounds: int) -> list[str]:
    """The columns of a row."""
    results: dict[str, list[float]] = {}
    for number in range(rounds):
        for each in who if number % 2 == 0 else reversed(who):
            for column, value in run(each, path).items():
                results.setdefault(column, []).append(value)
    faster = [one / other for one, other in zip(results["tarfile"], results["ours"], strict=True)]
    slower = [one / other for one, other in zip(results["ours"], results.get("C", []), strict=False)]
    columns = [median(results.get(each, [])) for each in ("tarfile", "tar -t", "ours", "first", "C")]
    return [*columns, median(faster), median(slower), f"{max(results['peak']):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(ARCHIVES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], Path(options.work[1]))
        return
    print("CPU seconds: median (least-most). RSS in MB.\n")
    print("| archive | tarfile | tar -t | ours | first | C | tarfile / ours | ours / C | RSS |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        who = contestants(Path(name))
        for title in options.only.split(","):
            text, divisor, shape = ARCHIVES[title]
            count = max(1, options.entries // divisor)
            path = Path(name) / f"{title}.tar"
            make(path, shape(count))
            columns = measure(path, who, options.rounds)
            print(f"| {title}: {text.format(f'{count:,}')} | {' | '.join(columns)} |", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
