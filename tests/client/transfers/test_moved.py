"""What an aggregate moves, compared with its checksums, wherever archives are cut into parts."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from datas3t import v1
from datas3t.client import ChecksumMismatch, Client
from datas3t.client._transfers import moved
from datas3t.client._transfers.moved import Moved
from datas3t.client._transfers.sources import Sources
from tests.client.archives import sample
from tests.client.sites import Site

SIZES = [300, 0, 30_000, 512, 9_000, 1]
SEED = 12


class Parts:
    """An archive that is cut into parts."""

    def __init__(self, site: Site, client: Client, cuts: list[int]) -> None:
        self._sources = Sources(client.connection, site.name, 1, len(SIZES))
        (listed,) = client.list_dataranges(site.name)
        self.data = bytearray(site.object(listed.object_key)[:-1024])
        self.spans = list(pairwise([0, *cuts, len(self.data)]))
        self.id = listed.id
        self._moved = Moved(client._session, site.name, self._sources)

    def suspects(self, number: int, data: bytes) -> set[int]:
        """Compare a part, which begins with a few bytes of another source."""
        start, stop = self.spans[number]
        piece = v1.AggregatePiece(datarange_id=self.id, start=start, stop=stop)
        part = memoryview(b"before" + data[start:stop])
        return self._moved.suspects(number, [(piece, 6)], lambda start, stop: part[start:stop])


@pytest.fixture
def uploaded(site: Site, tmp_path: Path) -> Site:
    site.upload(sample(tmp_path / "1.tar", 1, *SIZES))
    return site


def random_cuts(rng: random.Random) -> list[int]:
    return sorted(rng.sample(range(1, 45_000), rng.randrange(6)))


def test_a_content_that_differs_is_found_in_all_its_parts(uploaded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "_AT_ONCE", 4_096)
    rng = random.Random(SEED)
    (listed,) = uploaded.client.list_dataranges(uploaded.name)
    contents = content_spans()
    for _ in range(40):
        parts = Parts(uploaded, uploaded.client, random_cuts(rng))
        order = rng.sample(range(len(parts.spans)), len(parts.spans))
        good = bytes(parts.data)
        assert [parts.suspects(number, good) for number in order] == [set()] * len(order)
        start, stop = rng.choice([span for span in contents if span[0] < span[1]])
        bad = bytearray(good)
        bad[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)
        holding = {n for n, (low, high) in enumerate(parts.spans) if low < stop and start < high}
        found = [parts.suspects(number, bytes(bad)) for number in order]
        assert set().union(*found) == holding
        # Fetched again, the parts are right; or they differ again, which is final.
        assert [parts.suspects(number, good) for number in sorted(holding)] == [set()] * len(holding)
        with pytest.raises(ChecksumMismatch) as raised:
            [parts.suspects(number, bytes(bad)) for number in sorted(holding)]
        assert raised.value.key == 1 + contents.index((start, stop))
        assert raised.value.object == listed.object_key


def test_nothing_is_compared_if_that_is_turned_off(uploaded: Site) -> None:
    with Client(uploaded.client.url, verify=False) as client:
        parts = Parts(uploaded, client, [])
        assert parts.suspects(0, bytes(len(parts.data))) == set()


def content_spans() -> list[tuple[int, int]]:
    """Return where each content is in the archive."""
    spans, at = [], 0
    for size in SIZES:
        spans.append((at + 512, at + 512 + size))
        at += 512 + -(-size // 512) * 512
    return spans
