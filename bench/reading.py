"""Compare reading through the SDK with its engine alone, pycurl, boto3, obstore, webdataset, and presign calls.

    PYTHONPATH=. python bench/reading.py [--rounds 5] [--only WORKLOAD,...] [--quick] [--write] [--folder DIR]

All of them read the same datapoints, generated from a seed. Each runs in its own process, they take turns, and the
contents are compared. Ratios are computed per round and are above 1 if the SDK is faster. `--write` puts the tables
into RESULTS.md.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pycurl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench import nginx, opening, random_reads, scans, shares, together
from bench.report import Report
from bench.sites import QUICK, Sites, Sizes, set_up
from bench.stand import running_stand

_RESULTS = Path(__file__).with_name("RESULTS.md")
WORKLOADS: dict[str, Callable[[Report, Sites, int], None]] = {
    "many": random_reads.many,
    "far": random_reads.far,
    "single": random_reads.one_by_one,
    "batches": together.small_batches,
    "scan": scans.scan,
    "open": opening.wide,
    "together": opening.together,
    "memory": opening.memory,
    "server": shares.server,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", metavar="WORKLOAD,...", default=",".join(WORKLOADS))
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and one round, to check that the benchmark runs"
    )
    parser.add_argument("--write", action="store_true", help="write the tables to RESULTS.md")
    parser.add_argument("--folder", type=Path, help="folder for the data of the servers, which need a few GB")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; choose from {', '.join(WORKLOADS)}")
    report, began = Report(sys.stdout), time.monotonic()
    rounds = 1 if options.quick else options.rounds
    report.say(_about(rounds))
    with running_stand(options.folder) as stand, set_up(stand, QUICK if options.quick else Sizes()) as sites:
        for name in chosen:
            print(f"[{time.monotonic() - began:.0f} s: {name}]", file=sys.stderr)
            WORKLOADS[name](report, sites, rounds)
    print(f"[{time.monotonic() - began:.0f} s in total]", file=sys.stderr)
    if options.write:
        report.write(_RESULTS)


def _about(rounds: int) -> str:
    """Return a description of the machine and of how to read the tables."""
    libcurl = pycurl.version.partition(" OpenSSL")[0]
    front = "without nginx, so only SeaweedFS was measured"
    if nginx.is_installed():
        front = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.split()[-1]
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the start, Python "
        f"{platform.python_version()}, {libcurl}, {front}; {rounds} rounds: median (least-greatest). Clients and "
        "servers share the machine. Each contestant runs in a process of its own. Client CPU and RSS are those of that "
        "process and its children. `SDK / it` is how many times as fast the SDK is, round by round."
    )


if __name__ == "__main__":
    main()
