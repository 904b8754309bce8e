"""Uploads to a real server and S3: what is stored, faults, and errors."""

import os
import threading
import time
from pathlib import Path

import pytest

from datas3t.archive import tar
from datas3t.client import (
    AlreadyExists,
    ArchiveError,
    Client,
    FailedPrecondition,
    FileError,
    InvalidArgument,
    NotFound,
    TransferFailed,
    Uploaded,
)
from tests.client.archives import MIB, sample
from tests.client.sites import Site
from tests.support.faults import Fault


def test_the_bucket_has_the_archive_as_it_is_on_disk(site: Site, tmp_path: Path) -> None:
    small = sample(tmp_path / "1.tar", 7, 100, 0, 5000)
    uploaded = site.client.upload_tar(site.name, small.path)
    assert uploaded == Uploaded(7, 9, len(small.data))
    assert uploaded.datapoints == 3
    assert site.stored() == (small.data, tar.scan_file(small.path).index)
    assert not site.journal(small).read()


def test_a_large_archive_is_sent_in_parts(site: Site, tmp_path: Path) -> None:
    large = sample(tmp_path / "1.tar", 0, *[9 * MIB] * 5)
    site.upload(large)
    assert site.stored() == (large.data, tar.scan_file(large.path).index)
    assert site.multiparts() == []


@pytest.mark.usefixtures("every_step")
def test_progress_reports_phase_after_phase_and_never_decreases(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    thread: set[int] = set()

    def progress(*step: object) -> None:
        seen.append(step)  # type: ignore[arg-type]
        thread.add(threading.get_ident())

    large = sample(tmp_path / "1.tar", 0, *[9 * MIB] * 5)
    site.client.upload_tar(site.name, large.path, progress=progress)
    assert list(dict.fromkeys(phase for phase, _, _ in seen)) == ["index", "upload", "complete"]
    assert thread == {threading.get_ident()}
    for phase in ("index", "upload", "complete"):
        steps = [(current, total) for name, current, total in seen if name == phase]
        assert steps == sorted(steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]


def test_an_invalid_archive_is_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    bad = sample(tmp_path / "1.tar", 7, 100, 100)
    bad.path.write_bytes(bad.data.replace(b"00000000000000000008.bin", b"00000000000000000009.bin"))
    with pytest.raises(ArchiveError, match=r"1\.tar: .*(checksum|key 7)"):
        site.upload(bad)
    assert (site.objects(), site.journal(bad).read()) == ([], None)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None], ids=["pipe", "folder", "nothing"])
def test_a_path_that_is_not_a_regular_file_is_refused(client: Client, tmp_path: Path, make: "type") -> None:
    make(tmp_path / "odd.tar")
    with pytest.raises(FileError, match=r"odd\.tar"):
        client.upload_tar("any", tmp_path / "odd.tar")


def test_keys_that_exist_are_refused_and_the_journal_is_removed(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 1, 10, 10))
    other = sample(tmp_path / "2.tar", 2, 10, 10)
    stored = site.objects()
    with pytest.raises(AlreadyExists, match="the next free key is 3") as raised:
        site.upload(other)
    assert raised.value.reason == "DATARANGE_OVERLAPS"
    assert site.journal(other).read() is None
    assert site.objects() == stored  # it was refused before anything was sent


def test_an_unknown_datas3t_and_invalid_options_are_refused(client: Client, tmp_path: Path) -> None:
    small = sample(tmp_path / "1.tar", 1, 10)
    with pytest.raises(NotFound, match="nowhere"):
        client.upload_tar("nowhere", small.path)
    with pytest.raises(InvalidArgument, match="max_parallelism"):
        client.upload_tar("nowhere", small.path, max_parallelism=0)
    with pytest.raises(InvalidArgument, match="max_retries"):
        client.upload_tar("nowhere", small.path, max_retries=-1)


def test_an_upload_is_cancelled_if_its_file_changes(site: Site, tmp_path: Path) -> None:
    large = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 3)
    ids = []

    def touch(phase: str, current: int, total: int) -> None:
        if phase == "upload" and current == 0:
            ids.append(site.journal_entry(large).upload_id)
            os.utime(large.path, (1, 1))

    with pytest.raises(FileError, match="changed while it was uploaded"):
        site.client.upload_tar(site.name, large.path, progress=touch)
    with pytest.raises(FailedPrecondition) as raised:
        site.sign_parts(ids[0])
    assert raised.value.reason == "UPLOAD_CANCELLED"
    assert site.client.list_dataranges(site.name) == []


def test_an_upload_fails_with_file_error_if_its_file_is_cut_short(site: Site, tmp_path: Path) -> None:
    large = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 3)

    def cut(phase: str, current: int, total: int) -> None:
        if phase == "upload" and current == 0:
            os.truncate(large.path, MIB)

    with pytest.raises(FileError, match="changed while it was uploaded"):
        site.client.upload_tar(site.name, large.path, max_retries=0, progress=cut)


def test_connection_faults_do_not_change_the_result(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    large = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 5)
    relayed.relay.plan(
        Fault(status=503, only=b"PUT "),
        Fault(cut_request_after=MIB, only=b"PUT "),
        Fault(cut_after=0, only=b"PUT "),
        Fault(refuse=True, only=b"PUT "),
    )
    relayed.upload(large)
    assert relayed.relay.planned == 0
    assert relayed.stored()[0] == large.data


def test_an_upload_that_failed_in_spite_of_retries_is_resumed_by_the_same_call(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    large = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 5)
    relayed.relay.plan(*[Fault(status=500, only=b"partNumber=3")] * 2)
    with pytest.raises(TransferFailed, match="run it again to resume"):
        relayed.upload(large, max_retries=1, max_parallelism=1)
    sent = relayed.relay.bytes_to_server
    relayed.upload(large)
    assert relayed.relay.bytes_to_server - sent < 30 * MIB
    assert relayed.stored()[0] == large.data


@pytest.mark.usefixtures("every_step")
def test_urls_that_expire_during_the_upload_are_renewed(
    short_url_client: Client, relayed: Site, tmp_path: Path
) -> None:
    large = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 7)
    waits = 0

    def outlast_urls(phase: str, current: int, total: int) -> None:
        nonlocal waits
        if phase == "upload" and 0 < current < total and waits < 2:
            time.sleep(2.2)  # longer than the URLs are valid
            waits += 1

    short_url_client.upload_tar(relayed.name, large.path, max_parallelism=1, progress=outlast_urls)
    assert waits == 2
    assert relayed.stored()[0] == large.data


def test_completion_waits_for_a_server_that_is_unavailable(site: Site, tmp_path: Path) -> None:
    from tests.support.faults import relay

    large = sample(tmp_path / "1.tar", 1, 10)
    with relay(site.client.url, per_connection=True) as proxy, Client(proxy.url) as client:

        def cut(phase: str, current: int, total: int) -> None:
            if phase == "upload" and current == total:
                proxy.plan(*[Fault(refuse=True)] * 8)
                proxy.cut_all()

        client.upload_tar(site.name, large.path, progress=cut)
        assert proxy.planned < 8
    assert site.stored()[0] == large.data


def test_many_threads_upload_concurrently(site: Site, tmp_path: Path) -> None:
    samples = [sample(tmp_path / f"{number}.tar", number * 10, 1000, 2000) for number in range(16)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            site.upload(samples[number])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    listing = site.client.list_dataranges(site.name)
    assert [site.object(each.object_key) for each in listing] == [each.data for each in samples]


def test_an_upload_works_without_a_state_folder(site: Site, tmp_path: Path, state_home: Path) -> None:
    state_home.write_bytes(b"a file instead of a folder")
    small = sample(tmp_path / "1.tar", 1, 10)
    site.upload(small)
    assert site.stored()[0] == small.data
