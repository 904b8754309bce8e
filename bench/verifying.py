"""What it costs to compare contents with their checksums, in a minute: nginx serves archives from memory.

    PYTHONPATH=. python bench/verifying.py [--rounds 15]

A client that verifies and one that does not read the same 10 KiB datapoints in one process, in turns. Times are CPU
time per datapoint, at the median of the rounds; the cost is the median of the ratios of each round. The last line has
the rate of `verify` as a share of that of `scan(copy=False)`, by the clock.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script

from bench.short import ARCHIVES, CHOSEN, EACH, batches, place
from datas3t.archive.index import END_SIZE
from datas3t.client import Client
from datas3t.client._reading import verifying
from datas3t.client._reading.listed import Listed
from datas3t.client._transfers import verify
from datas3t.client.handle import Datas3t

KEYS = random.Random(1).sample(range(ARCHIVES * EACH), CHOSEN)
READS: dict[str, tuple[Callable[[Datas3t], object], int]] = {
    "`get_many` of 1,000": (lambda handle: [handle.get_many(batch) for batch in batches(KEYS, 1000)], CHOSEN),
    "`scan`": (lambda handle: sum(len(each.content) for each in handle.scan()), ARCHIVES * EACH),
    "`scan(copy=False)`": (lambda handle: sum(len(each.content) for each in handle.scan(copy=False)), ARCHIVES * EACH),
    "`get`": (lambda handle: [handle.get(key) for key in KEYS[:2000]], 2000),
}


def spent(read: Callable[[Datas3t], object], handle: Datas3t) -> float:
    """Return the seconds of CPU time that a read takes."""
    began = time.process_time()
    read(handle)
    return time.process_time() - began


def verify_rate(handle: Datas3t, rounds: int) -> float:
    """Return the rate of verification as a share of that of a scan: the median of the rounds."""
    catalogue = handle._reader.catalogues.covering(0, 0, ARCHIVES * EACH)

    def listed(*_: object) -> Iterator[Listed]:
        for each, _first, _last in catalogue.overlapping(0, ARCHIVES * EACH):
            yield Listed(each._columns, each._row, each.lifetime, each.entries_end + END_SIZE)

    setattr(verifying, "listed", listed)  # noqa: B010 - there is no server that could list them
    setattr(verify, "Reader", lambda *_: handle._reader)  # noqa: B010
    shares = []
    for _ in range(rounds):
        began = time.perf_counter()
        for each in handle.scan(copy=False):
            len(each.content)
        between = time.perf_counter()
        assert not handle.verify().wrong
        shares.append((between - began) / (time.perf_counter() - between))
    return statistics.median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print("| read | unchecked, us | compared, us | cost |", "|---|---|---|---|", sep="\n")
    with place() as near:
        cache = near.folder / "cache"
        clients = [Client("http://127.0.0.1:9", cache_dir=cache, verify=verify) for verify in (False, True)]
        handles = [near.handle(client) for client in clients]
        for name, (read, count) in READS.items():
            for handle in handles:
                read(handle)  # the caches are warm
            pairs = []
            for number in range(rounds):
                order = handles if number % 2 else handles[::-1]
                times = {handle: spent(read, handle) for handle in order}
                pairs.append((times[handles[0]], times[handles[1]]))
            off, on = (statistics.median(pair[which] for pair in pairs) / count * 1e6 for which in (0, 1))
            cost = statistics.median(after / before for before, after in pairs) - 1
            print(f"| {name} | {off:.2f} | {on:.2f} | {cost:+.1%} |")
        print(f"\n`verify` has {verify_rate(handles[1], rounds):.2f} of the rate of `scan(copy=False)`")


if __name__ == "__main__":
    main()
