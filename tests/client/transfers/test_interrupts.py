"""An exception in the engine during `download_tar` and `upload_tar` reaches the caller, and the next call works."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

import datas3t.transport
from tests.client.archives import sample
from tests.client.sites import Site
from tests.support.interrupts import Alarms, Injector, Interrupted, Place, places

ENGINE = Path(datas3t.transport.__file__).parent


@pytest.fixture(autouse=True)
def _small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datas3t.transport.get._BATCH", 10_000)


def some(passed: Iterable[Place]) -> list[Place]:
    """Return about 20 of the places; the engine's own tests try all of them."""
    every = list(passed)
    return every[:: len(every) // 20]


def test_an_interrupted_download_is_followed_by_a_right_one(site: Site, tmp_path: Path) -> None:
    whole = sample(tmp_path / "a.tar", 1, *[3_000] * 10)
    site.upload(whole)
    handle, output = site.client.datas3t(site.name), tmp_path / "output.tar"

    def download() -> bytes:
        output.unlink(missing_ok=True)
        handle.download_tar(1, 10, output, chunk_size=16_384)
        return output.read_bytes()

    expected, raised = download(), 0
    for place in some(places(ENGINE, download)):
        try:
            with Injector(ENGINE, place):
                assert download() == expected, place
        except Interrupted:
            raised += 1
        assert download() == expected, f"after {place}"
    assert raised > 10


@pytest.mark.timing  # signals come at random moments
def test_no_signal_during_a_download_is_lost(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "a.tar", 1, *[100_000] * 20))
    handle, output, alarms = site.client.datas3t(site.name), tmp_path / "output.tar", Alarms(seed=2, seconds=0.02)
    handle.download_tar(1, 20, output)
    expected, raised = output.read_bytes(), 0
    for _ in range(60):
        output.unlink(missing_ok=True)
        try:
            with alarms:
                handle.download_tar(1, 20, output)
            assert not alarms.fired
            assert output.read_bytes() == expected
        except Interrupted:
            raised += 1
    assert raised > 10


def test_an_interrupted_upload_can_be_made_again(site: Site, tmp_path: Path) -> None:
    firsts = itertools.count(1, 10)

    def next_sample() -> None:
        first = next(firsts)
        site.upload(sample(tmp_path / f"{first}.tar", first, *[3_000] * 10))

    for place in some(places(ENGINE, next_sample)):
        first = next(firsts)
        archive = sample(tmp_path / f"{first}.tar", first, *[3_000] * 10)
        try:
            with Injector(ENGINE, place):
                site.upload(archive)
        except Interrupted:
            site.upload(archive)
        handle = site.client.datas3t(site.name)
        assert handle.get_many(range(first, first + 10)) == list(archive.contents.values()), place
