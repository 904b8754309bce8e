"""Verification notices each bit that is wrong in an archive, an index or checksums, and names the datarange."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from datas3t.client import InvalidArgument
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import jobs, verifying
from datas3t.client._reading.listed import Listed
from datas3t.client._transfers import verify
from datas3t.client.handle import Datas3t
from tests.client.reading.archive_host import ArchiveHost
from tests.client.reading.flips import Flipped, flipped
from tests.support.tars import archive, contents

COUNT = 60  # dataranges


@pytest.fixture
def handle(host: ArchiveHost, monkeypatch: pytest.MonkeyPatch) -> Datas3t:
    """Return a handle on dataranges of three datapoints, in all dialects, of which some have no checksums."""
    dialects = ("ustar", "gnu", "pax")
    archives = [archive(3 * n, contents(n, 3, 700), dialect=dialects[n % 3]) for n in range(COUNT)]
    made = host.handle(*archives, checksums=[n for n in range(COUNT) if n % 10])
    list_from_memory(made, monkeypatch, {3 * n: len(raw) for n, raw in enumerate(archives)})
    return made


def list_from_memory(handle: Datas3t, patch: pytest.MonkeyPatch, sizes: dict[int, int]) -> None:
    """Let verification list what the handle holds instead of asking a server; sizes are by first key."""
    catalogue = handle._reader.catalogues.covering(0, 0, 2**63 - 1)

    def listed(_connection: object, _name: str, first: int, last: int) -> Iterator[Listed]:
        for each, _, _ in catalogue.overlapping(first, last):
            yield Listed(each._columns, each._row, Lifetime(0, 2**60, 2**60), sizes[each.first])

    patch.setattr(verifying, "listed", listed)
    patch.setattr(verify, "listed", listed)
    patch.setattr(handle._reader.catalogues, "is_gone", lambda *_: False)
    patch.setattr(verify, "Reader", lambda *_: handle._reader)


def id_of(path: str) -> int:
    """Return the id of the datarange of an object."""
    return int(Path(path).stem)


def test_what_is_right_is_right(handle: Datas3t) -> None:
    seen: list[tuple[str, int, int]] = []
    found = handle.verify(progress=lambda *step: seen.append(step))
    assert (found.wrong, found.dataranges, found.datapoints, found.without_checksums) == ((), COUNT, 3 * COUNT, 6)
    assert seen[-1] == ("verify", found.size, found.size)
    found = handle.verify(4, 9)
    assert (found.dataranges, found.datapoints) == (3, 9), "dataranges are verified as a whole"


@pytest.mark.parametrize("run", [4 << 20, 512, 1024])
def test_every_kind_of_damage_is_named(
    handle: Datas3t, host: ArchiveHost, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(jobs, "RUN", run)
    monkeypatch.setattr(verifying, "_RECORDS", 2 if run == 512 else 16_384)
    source, expected = random.Random(run), set()
    paths = sorted(host.objects, key=lambda path: (id_of(path), path))
    numbers = sorted(set(map(id_of, paths)))
    for path in paths:
        number = numbers.index(id_of(path))
        if number % 3 == 1 and source.random() < 0.5:
            raw = host.objects[path]
            found = flipped(source, raw, path)
            if found.matters(number % 10 != 0):
                expected.add(3 * number)
            host.objects[path] = found.raw
    told: list[int] = []
    result = handle.verify(on_wrong=lambda wrong: told.append(wrong.first))
    assert {each.first for each in result.wrong} == expected == set(told)
    assert result.dataranges == COUNT
    for each in result.wrong:
        assert each.problem
        assert "\n" not in each.problem
        assert each.object_key.endswith(".tar")


def test_damage_on_the_way_is_fetched_again(handle: Datas3t, host: ArchiveHost) -> None:
    source = random.Random(1)
    for path, raw in list(host.objects.items()):
        host.objects[path] = Flipped(raw, source.randrange(8 * len(raw)), 1)  # type: ignore[assignment]
    assert handle.verify().wrong == ()


@pytest.mark.parametrize("kind", ["tar", "index", "crc32c"])
def test_a_missing_object_is_named(handle: Datas3t, host: ArchiveHost, kind: str) -> None:
    lost = [path for path in host.objects if path.endswith(kind)][20:22]
    for path in lost:
        del host.objects[path]
    found = handle.verify()
    assert len(found.wrong) == 2
    assert all(any(Path(path).name in each.problem for each in found.wrong) for path in lost)
    assert found.dataranges == COUNT


def test_a_fraction_is_read_at_random(handle: Datas3t) -> None:
    whole = handle.verify().size
    sizes = [handle.verify(fraction=0.3).size for _ in range(5)]
    assert 0 < sum(sizes) < 4 * whole
    assert len(set(sizes)) > 1


def test_a_rate_is_kept(handle: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=lambda: 100.0 + sum(waited))
    monkeypatch.setattr(verify, "time", clock)
    size = handle.verify(max_rate=1000).size
    assert sum(waited) == pytest.approx(size / 1000)


@pytest.mark.parametrize(
    "call",
    [
        lambda handle: handle.verify(5, 4),
        lambda handle: handle.verify(fraction=0),
        lambda handle: handle.verify(fraction=1.1),
        lambda handle: handle.verify(max_rate=0),
        lambda handle: handle.verify(fraction=0.5, add=True),
    ],
)
def test_values_out_of_range_are_refused(handle: Datas3t, call: Callable[[Datas3t], object]) -> None:
    with pytest.raises(InvalidArgument):
        call(handle)


def test_large_contents_are_verified_in_pieces(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "RUN", 4096)
    raw = archive(0, [b"a" * 20_000, b"", b"b" * 4096, b"c" * 3000])
    made = host.handle(raw, checksums=True)
    list_from_memory(made, monkeypatch, {0: len(raw)})
    assert made.verify().datapoints == 4
    (path,) = (path for path in host.objects if path.endswith(".tar"))
    for byte, once in ((600, True), (15_000, True), (600, False), (15_000, False), (20_515, False), (20_515, True)):
        host.objects[path] = Flipped(raw, 8 * byte, 1 if once else 1 << 30)  # type: ignore[assignment]
        assert bool(made.verify().wrong) is not once, byte
