"""Verification against a real server: dataranges without checksums get them, and deletions meanwhile do no harm."""

from pathlib import Path

import pytest

from datas3t.archive import checksums, tar
from tests.client.archives import Sample, sample
from tests.client.sites import Site
from tests.support.faults import Fault


@pytest.fixture
def old(site: Site, tmp_path: Path) -> list[Sample]:
    """Fill the datas3t: two dataranges without checksums, and one with them between."""
    samples = [sample(tmp_path / f"{first}.tar", first, *[1000] * 4) for first in (1, 5, 9)]
    for each in samples:
        if each is samples[1]:
            site.upload(each)
        else:
            contents = tar.scan_file(each.path)
            site.upload_unchecked(each.data, contents.index, contents.first_key)
    return samples


def test_checksums_are_added_where_there_are_none(site: Site, old: list[Sample]) -> None:
    handle = site.client.datas3t(site.name)
    before = handle.verify()
    assert (before.dataranges, before.datapoints, before.without_checksums, before.added) == (3, 12, 2, 0)
    after = handle.verify(add=True)
    assert (after.dataranges, after.without_checksums, after.added, after.wrong) == (3, 0, 2, ())
    for listed, each in zip(site.client.list_dataranges(site.name), old, strict=True):
        expected = checksums.encode(map(checksums.crc, each.contents.values()))
        assert site.object(listed.checksums_object_key) == expected
    again = handle.verify(add=True)
    assert (again.without_checksums, again.added) == (0, 0)
    assert site.client.datas3t(site.name).get_many(range(1, 13)) == [
        content for each in old for content in each.contents.values()
    ]


def test_what_another_process_adds_meanwhile_is_left_to_it(site: Site, old: list[Sample]) -> None:
    from datas3t import v1

    first = site.client.list_dataranges(site.name)[0]
    calls = site.client.connection.datarange
    started = calls.StartChecksums(v1.StartChecksumsRequest(datas3t_name=site.name, datarange_id=first.id))
    found = site.client.datas3t(site.name).verify(add=True)
    assert (found.added, found.without_checksums, found.wrong) == (1, 1, ())
    calls.CancelChecksums(v1.CancelChecksumsRequest(checksums_id=started.checksums_id))


def test_dataranges_that_are_aggregated_meanwhile_are_verified_as_the_new_one(site: Site, old: list[Sample]) -> None:
    steps: list[int] = []

    def aggregate(_phase: str, current: int, _total: int) -> None:
        if current and not steps:
            steps.append(current)
            site.client.aggregate(site.name, 1, 12)

    found = site.client.datas3t(site.name).verify(progress=aggregate)
    assert steps
    assert found.wrong == ()


def test_damage_on_the_way_to_verification_is_no_damage(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 1, *[1000] * 4)
    relayed.upload(archive)
    for kind, bit in ((b".tar?", 8 * 600), (b".index?", 8 * 13), (b".crc32c?", 3)):
        relayed.relay.plan(Fault(flip=bit, only=kind))
        assert relayed.client.datas3t(relayed.name).verify().wrong == ()
        assert not relayed.relay.planned


def test_lasting_damage_is_reported_and_checksums_are_not_added_to_it(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 1, *[1000] * 4)
    relayed.upload_unchecked(archive.data, tar.scan_file(archive.path).index, 1)
    relayed.relay.rule = lambda line: Fault(flip=8 * 100 if b".tar?" in line else None)  # in a header
    found = relayed.client.datas3t(relayed.name).verify(add=True)
    (wrong,) = found.wrong
    assert (wrong.datas3t, wrong.first, wrong.last) == (relayed.name, 1, 4)
    assert "checksum" in wrong.problem
    assert (found.added, found.without_checksums) == (0, 1)
