"""Ten thousand single bits are flipped in archives, indices and checksums, one at a time: none is unnoticed.

A read returns what was uploaded, or raises an error that names the datarange. Verification reports every bit but those
of headers without a meaning. A bit that is wrong only on its way to the reader changes nothing.
"""

import random
from collections import Counter
from pathlib import Path

from tests.client.reading.memory_flips import Flips, nothing_on_disk

FLIPS = 10_000


def test_no_flipped_bit_is_unnoticed(tmp_path: Path) -> None:
    source, flips = random.Random(11), Flips(tmp_path)
    with nothing_on_disk():
        outcomes = Counter(flips.attempt(source) for _ in range(FLIPS))
    assert outcomes.total() == FLIPS
    assert outcomes["healed"] > FLIPS // 3
    assert outcomes["noticed"] > FLIPS // 4
