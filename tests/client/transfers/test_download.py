"""Downloads from a real server and S3: exact bytes, complete files only, faults, and resuming after a crash."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import (
    ArchiveError,
    Client,
    Downloaded,
    FileError,
    InvalidArgument,
    NotFound,
    ObjectChanged,
)
from tests.client.archives import MIB, Sample, sample, tar
from tests.client.sites import Site
from tests.support.faults import Fault
from tests.support.stack import Process, wait_until
from tests.support.store_proxy import Ways, store_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

DOWNLOAD = """
import sys, time
from datas3t.client import Client, Interrupted

url, name, last, output, stop_at = sys.argv[1:]

def progress(phase, current, total):
    if current >= int(stop_at):
        print("reached", flush=True)
        time.sleep(600)

with Client(url) as client:
    try:
        client.download_tar(name, 0, int(last), output, max_parallelism=1, chunk_size=1 << 20, progress=progress)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
"""


@contextmanager
def downloading_process(site: Site, last: int, output: Path, stop_at: int = 1 << 60) -> Iterator[Process]:
    """Download in a child process, which waits when `stop_at` bytes have arrived."""
    command = ["-c", DOWNLOAD, site.client.url, site.name, str(last), str(output), str(stop_at)]
    process = Process(command, output.with_suffix(".log"))
    try:
        yield process
    finally:
        process.kill()


def upload_three(site: Site, folder: Path) -> Sample:
    """Upload three archives with a gap after the first, and return everything as one sample."""
    contents: dict[int, bytes] = {}
    for first, sizes in ((0, [3 * MIB] * 3), (10, [0, 1, 511, 512, 513]), (15, [2 * MIB, 100])):
        each = sample(folder / f"{first}.tar", first, *sizes)
        site.upload(each)
        contents |= each.contents
    return Sample(folder / "all.tar", contents)


@pytest.mark.parametrize(("first", "last"), [(0, 16), (1, 1), (2, 12), (11, 15), (10, 10), (3, 10), (0, 2**63 - 1)])
def test_a_download_has_the_bytes_of_the_entries_and_an_end_marker(
    site: Site, tmp_path: Path, first: int, last: int
) -> None:
    whole = upload_three(site, tmp_path)
    output = tmp_path / "out.tar"
    downloaded = site.client.download_tar(site.name, first, last, output, chunk_size=MIB + 1)
    assert output.read_bytes() == whole.span(first, last)
    assert downloaded == Downloaded(output, output.stat().st_size)
    assert not list(tmp_path.glob(".*"))


def test_other_tar_dialects_and_padding_are_not_changed(site: Site, tmp_path: Path) -> None:
    import tarfile

    plain = sample(tmp_path / "plain.tar", 1, 100, 200, 300)
    with tarfile.open(plain.path) as source, tarfile.open(tmp_path / "pax.tar", "w", format=tarfile.PAX_FORMAT) as pax:
        for member in source:
            member.mtime = 0.5
            pax.addfile(member, source.extractfile(member))
    site.client.upload_tar(site.name, tmp_path / "pax.tar")
    site.client.download_tar(site.name, 1, 2, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "pax.tar").read_bytes()[: 2 * 2048] + bytes(1024)


@pytest.mark.usefixtures("every_step")
def test_progress_counts_bytes_and_never_decreases(site: Site, tmp_path: Path) -> None:
    whole = upload_three(site, tmp_path)
    seen: list[tuple[str, int, int]] = []
    site.client.download_tar(site.name, 0, 20, tmp_path / "out.tar", progress=lambda *step: seen.append(step))
    total = len(whole.span(0, 20)) - 1024
    assert seen[0] == ("download", 0, total)
    assert seen[-1] == ("download", total, total)
    assert seen == sorted(seen)


def test_a_download_without_datapoints_raises_before_a_file_appears(site: Site, tmp_path: Path) -> None:
    for setup in (lambda: None, lambda: upload_three(site, tmp_path)):
        setup()
        with pytest.raises(NotFound) as raised:
            site.client.download_tar(site.name, 3, 9, tmp_path / "out.tar")
        assert raised.value.reason == "DATAPOINTS_NOT_FOUND"
    assert not list(tmp_path.glob("*out.tar*"))
    with pytest.raises(NotFound, match="nowhere"):
        site.client.download_tar("nowhere", 0, 1, tmp_path / "out.tar")
    with pytest.raises(InvalidArgument, match="range of keys"):
        site.client.download_tar(site.name, 2, 1, tmp_path / "out.tar")
    with pytest.raises(InvalidArgument, match="chunk_size"):
        site.client.download_tar(site.name, 1, 2, tmp_path / "out.tar", chunk_size=0)


def test_an_impossible_output_is_refused_before_any_call(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9") as client:
        for output, why in ((tmp_path, "not a regular file"), (tmp_path / "no/out.tar", "is not a folder")):
            with pytest.raises(FileError, match=why):
                client.download_tar("any", 0, 1, output)


def test_a_link_is_followed_and_an_existing_output_is_replaced(site: Site, tmp_path: Path) -> None:
    whole = upload_three(site, tmp_path)
    (tmp_path / "real.tar").write_bytes(b"older")
    (tmp_path / "link.tar").symlink_to("real.tar")
    site.client.download_tar(site.name, 0, 20, tmp_path / "link.tar")
    assert (tmp_path / "link.tar").is_symlink()
    assert (tmp_path / "real.tar").read_bytes() == whole.span(0, 20)


def test_a_full_disk_raises_file_error(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    upload_three(site, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(FileError, match=r"out\.tar cannot be written: File too large"):
            site.client.download_tar(site.name, 0, 20, tmp_path / "out.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not (tmp_path / "out.tar").exists()


def test_connection_faults_do_not_change_the_result(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    whole = upload_three(relayed, tmp_path)
    relayed.relay.plan(
        Fault(cut_after=100_000, only=b"GET "),
        Fault(status=503, only=b"GET "),
        Fault(refuse=True, only=b"GET "),
        Fault(cut_after=0, only=b"GET "),
    )
    relayed.client.download_tar(relayed.name, 0, 20, tmp_path / "out.tar")
    assert relayed.relay.planned == 0
    assert (tmp_path / "out.tar").read_bytes() == whole.span(0, 20)


def test_after_kill_9_the_same_call_fetches_only_missing_chunks(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 0, *[5 * MIB] * 8)
    relayed.upload(archive)
    output = tmp_path / "out.tar"
    with downloading_process(relayed, 7, output, 30 * MIB) as process:
        wait_until(lambda: "reached" in process.log or not process.running)
    assert process.log == "reached\n"
    assert not output.exists()
    before = relayed.relay.bytes_to_client
    relayed.client.download_tar(relayed.name, 0, 7, output, chunk_size=MIB)
    assert relayed.relay.bytes_to_client - before < 13 * MIB
    assert output.read_bytes() == archive.data
    assert not list(tmp_path.glob(".*"))


def test_ctrl_c_ends_at_once_with_advice_to_resume(relayed: Site, tmp_path: Path) -> None:
    proxy, archive = relayed.relay, sample(tmp_path / "1.tar", 0, *[5 * MIB] * 3)
    assert proxy
    relayed.upload(archive)
    proxy.always = Fault(stall_after=MIB, only=b"GET ")
    before = len(proxy.requests)
    with downloading_process(relayed, 2, tmp_path / "out.tar") as process:
        wait_until(lambda: any(b"GET" in request for request in proxy.requests[before:]))
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    assert not (tmp_path / "out.tar").exists()


def test_an_unfinished_download_of_other_bytes_is_discarded(site: Site, tmp_path: Path) -> None:
    old = sample(tmp_path / "1.tar", 0, *[5 * MIB] * 3, seed=1)
    new = sample(tmp_path / "2.tar", 0, *[5 * MIB] * 3, seed=2)
    site.upload(old)
    with downloading_process(site, 2, tmp_path / "out.tar", 12 * MIB) as process:
        wait_until(lambda: "reached" in process.log or not process.running)
    site.client.delete_dataranges(site.name, 0, 2)
    site.upload(new)
    site.client.download_tar(site.name, 0, 2, tmp_path / "out.tar", chunk_size=MIB)
    assert (tmp_path / "out.tar").read_bytes() == new.data


def test_a_second_download_to_the_same_file_is_refused(site: Site, tmp_path: Path) -> None:
    upload_three(site, tmp_path)
    output = tmp_path / "out.tar"

    def second(phase: str, current: int, total: int) -> None:
        if current == 0:
            with pytest.raises(FileError, match="another download"):
                site.client.download_tar(site.name, 0, 20, output)

    site.client.download_tar(site.name, 0, 20, output, progress=second)
    assert output.exists()


@pytest.mark.usefixtures("every_step")
def test_urls_that_expire_during_the_download_are_renewed(short_url_client: Client, site: Site, tmp_path: Path) -> None:
    whole = upload_three(site, tmp_path)
    waits = 0

    def outlast_urls(phase: str, current: int, total: int) -> None:
        nonlocal waits
        if 0 < current < total and waits < 2:
            time.sleep(2.2)  # longer than the URLs are valid
            waits += 1

    output = tmp_path / "out.tar"
    short_url_client.download_tar(site.name, 0, 20, output, max_parallelism=1, chunk_size=MIB, progress=outlast_urls)
    assert waits == 2
    assert output.read_bytes() == whole.span(0, 20)


def test_an_overwritten_object_raises_object_changed(site: Site, tmp_path: Path) -> None:
    archive = sample(tmp_path / "1.tar", 0, 1000)
    site.upload(archive)
    key = site.client.list_dataranges(site.name)[0].object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=bytes(len(archive.data)))
    with pytest.raises(ObjectChanged):
        site.client.download_tar(site.name, 0, 0, tmp_path / "out.tar")
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(ObjectChanged):
        site.client.download_tar(site.name, 0, 0, tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_ranges_whose_bytes_are_shifted_are_refused(
    client: Client, services: "Services", bucket: str, s3: "S3Client", tmp_path: Path
) -> None:
    keys = {"access_key": services.s3.access_key, "secret_key": services.s3.secret_key}
    archive = sample(tmp_path / "1.tar", 0, *[1000] * 50)
    with store_proxy(services.s3.endpoint, Ways()) as proxy:
        name = f"shifted-{bucket}"  # other tests have configurations named after buckets
        client.add_bucket(name, endpoint=proxy.url, bucket=bucket, **keys)
        client.add_datas3t(name, bucket=name)
        site = Site(client, name, bucket, s3)
        site.upload(archive)
        (datarange,) = client.list_dataranges(name)
        proxy.shifted_keys.add(f"/{bucket}/{datarange.object_key}")
        with pytest.raises(ArchiveError, match="does not fit its archive"):
            client.download_tar(name, 0, 49, tmp_path / "out.tar")
        assert not list(tmp_path.glob("*out.tar*"))
        proxy.shifted_keys.clear()
        client.download_tar(name, 0, 49, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == archive.data


@pytest.mark.usefixtures("every_step")
def test_a_download_starts_over_if_its_dataranges_are_replaced(site: Site, tmp_path: Path) -> None:
    old = sample(tmp_path / "1.tar", 0, *[5 * MIB] * 3, seed=1)
    new = sample(tmp_path / "2.tar", 0, *[5 * MIB] * 3, seed=2)
    site.upload(old)
    replaced = threading.Event()

    def replace(phase: str, current: int, total: int) -> None:
        if current and not replaced.is_set():
            replaced.set()
            site.client.delete_dataranges(site.name, 0, 2)
            site.upload(new)
            wait_until(lambda: len(site.objects()) == 3, what="the deletion of the old objects")

    output = tmp_path / "out.tar"
    site.client.download_tar(site.name, 0, 2, output, max_parallelism=1, chunk_size=MIB, progress=replace)
    assert output.read_bytes() == new.data


def test_presigned_segments_give_the_bytes_of_the_download(site: Site, tmp_path: Path) -> None:
    from tests.support.uploads import get

    whole = upload_three(site, tmp_path)
    segments = site.client.presign_download(site.name, 1, 12)
    joined = b"".join(get(each.url, each.start, each.stop) for each in segments)
    assert joined + bytes(1024) == tar({key: whole.contents[key] for key in (1, 2, 10, 11, 12)})
