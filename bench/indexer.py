"""Measure how fast an archive is checked and indexed: ours, Python's tarfile, GNU tar's listing and a C program.

    python bench/indexer.py [--entries 1000000] [--rounds 3] [--only T1,T2] [--folder DIR]

Seconds are CPU time, user and system, because other programs on the machine affect it least. Each measurement is a
process of its own with a warm page cache, and the programs take turns. `first` is our first run, which imports numpy;
`ours` is the second run in the same process. Contents are holes in the file, so an entry takes a few kB of disk.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for running it as a script

from datas3t.archive import names, tar
from datas3t.archive.index import RECORD, padded
from tests.support.tars import pax, raw_header

END = bytes(1024)
Shape = Iterator[tuple[bytes, int]]
"""Yields the header blocks and the content size of each entry."""


def plain(count: int, size: int) -> Shape:
    """Yield entries of one header block and one size."""
    for key in range(count):
        yield raw_header(names.entry_name(key, "bin").encode(), size), size


def extended(count: int) -> Shape:
    """Yield entries as Python's tarfile writes them by default: each with a PAX header for its time."""
    for key in range(count):
        times = pax({b"mtime": b"%d.%07d" % (1_700_000_000 + key, key % 10_000_000)})
        yield times + raw_header(names.entry_name(key, "bin").encode(), 100), 100


def libarchive(count: int) -> Shape:
    """Yield entries of varying sizes, median 300 bytes, whose numbers end with a blank."""
    source = random.Random(5)
    for key in range(count):
        size = int(source.lognormvariate(5.7, 0.6))
        yield raw_header(names.entry_name(key, "bin").encode(), size, size_field=b"%011o " % size), size


def mixed(count: int) -> Shape:
    """Yield entries of up to 68 kB."""
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
    """Write an archive. Contents are holes, which read as zeros; no program reads them."""
    with path.open("wb") as out:
        for headers, size in shape:
            out.write(headers)
            out.seek(padded(size), 1)
        out.write(END)


def by_tarfile(path: Path) -> bytes:
    """Return the index of an archive, made with Python's tarfile."""
    index, position = bytearray(), 0
    with tarfile.open(path) as archive:
        while member := archive.next():
            names.parse_entry_name(member.name.encode())
            index += RECORD.pack(position, (member.offset_data - position) // 512, member.size >> 32, member.size)
            position = member.offset_data + padded(member.size)
            archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps all of them in memory
    return bytes(index)


def ours(path: Path) -> bytes:
    """Return the index of an archive, made with our own code."""
    return tar.scan_file(path).index


WORKERS = {"tarfile": by_tarfile, "ours": ours}


def work(program: str, path: Path) -> None:
    """Run in a process of its own: print the seconds of each run, the peak RSS in MB, and the hash of the index."""
    seconds = []
    for _ in range(2 if program == "ours" else 1):
        index = b""  # freed first, so that only one index is in memory
        started = time.process_time()
        index = WORKERS[program](path)
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps({"seconds": seconds, "peak": peak, "index": hashlib.sha256(index).hexdigest()}))


def run(program: str, path: Path) -> dict[str, float]:
    """Measure one program. Return the seconds by column, and for our own code the `peak` RSS."""
    columns: dict[str, float] = {}
    if program in WORKERS:
        done = subprocess.run([sys.executable, __file__, "--work", program, path], check=True, capture_output=True)
        result = json.loads(done.stdout)
        columns = {program: result["seconds"][-1]}
        if program == "ours":
            columns |= {"first": result["seconds"][0], "peak": result["peak"]}
        check_same_index(path, result["index"])
    else:
        index = path.with_suffix(".index")
        command = (
            ["tar", "-tf", str(path)] if program == "tar -t" else [str(path.parent / "ceiling"), str(path), str(index)]
        )
        started = child_seconds()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        columns = {program: child_seconds() - started}
        if program == "C":
            check_same_index(path, hashlib.sha256(index.read_bytes()).hexdigest())
    return columns


def child_seconds() -> float:
    """Return the CPU seconds of all child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


_indices: dict[Path, str] = {}


def check_same_index(path: Path, digest: str) -> None:
    """Exit unless all programs make the same index of an archive."""
    if _indices.setdefault(path, digest) != digest:
        sys.exit(f"the indices of {path.name} differ")


def programs(folder: Path) -> list[str]:
    """Return the programs that exist on this machine, after compiling the one in C."""
    available = ["tarfile", "ours"]
    if shutil.which("tar"):
        available.append("tar -t")
    if compiler := shutil.which("cc"):
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O2", "-o", folder / "ceiling", source], check=True)
        available.append("C")
    return available


def median(values: list[float]) -> str:
    """Return the median of the values, with the least and the most."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})" if values else "-"


def measure(path: Path, compared: list[str], rounds: int) -> list[str]:
    """Run all programs several times, and return the columns of a row of the table."""
    results: dict[str, list[float]] = {}
    for number in range(rounds):
        for each in compared if number % 2 == 0 else reversed(compared):
            for column, value in run(each, path).items():
                results.setdefault(column, []).append(value)
    faster = [one / other for one, other in zip(results["tarfile"], results["ours"], strict=True)]
    slower = [one / other for one, other in zip(results["ours"], results.get("C", []), strict=False)]
    columns = [median(results.get(each, [])) for each in ("tarfile", "tar -t", "ours", "first", "C")]
    return [*columns, median(faster), median(slower), f"{max(results['peak']):.0f}"]


def main() -> None:
    """Measure and print the table."""
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
        compared = programs(Path(name))
        for title in options.only.split(","):
            text, divisor, shape = ARCHIVES[title]
            count = max(1, options.entries // divisor)
            path = Path(name) / f"{title}.tar"
            make(path, shape(count))
            columns = measure(path, compared, options.rounds)
            print(f"| {title}: {text.format(f'{count:,}')} | {' | '.join(columns)} |", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
