"""Uploads that were killed, interrupted, or ended between two steps: the same call resumes them."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t.client import Uploaded
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client._transfers.open_upload import OpenUpload
from tests.client.archives import MIB, Sample, sample
from tests.client.sites import Site
from tests.support.faults import Fault
from tests.support.stack import Process, wait_until
from tests.support.uploads import put

UPLOAD = """
import sys, time
from datas3t.client import Client, Interrupted

url, name, path, stop_at = sys.argv[1:]

def progress(phase, current, total):
    if phase == "upload" and current >= int(stop_at):
        print("reached", flush=True)
        time.sleep(600)

with Client(url) as client:
    try:
        client.upload_tar(name, path, max_parallelism=1, progress=progress)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
print("done")
"""


def four_parts(folder: Path) -> Sample:
    """Make an archive of four parts."""
    return sample(folder / "1.tar", 1, *[9 * MIB] * 7)


@contextmanager
def uploading_process(site: Site, archive: Sample, state: Path, stop_at: int = 1 << 60) -> Iterator[Process]:
    """Upload in a child process, which waits when `stop_at` bytes are sent."""
    command = ["-c", UPLOAD, site.client.url, site.name, str(archive.path), str(stop_at)]
    process = Process(command, archive.path.with_suffix(".log"), {"XDG_STATE_HOME": str(state)})
    try:
        yield process
    finally:
        process.kill()


def upload_and_kill(site: Site, archive: Sample, state: Path, at: int) -> None:
    """Upload in a child process, and kill it when `at` bytes are sent."""
    with uploading_process(site, archive, state, at) as process:
        wait_until(lambda: "reached" in process.log or not process.running)
    assert process.log == "reached\n"


def test_after_kill_9_the_same_call_sends_only_missing_parts(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    assert relayed.relay
    archive = four_parts(tmp_path)
    upload_and_kill(relayed, archive, state_home, 41 * MIB)
    stored = sum(part.size for part in relayed.sign_parts(relayed.journal_entry(archive).upload_id).uploaded_parts)
    assert stored >= 40 * MIB
    before = relayed.relay.bytes_to_server
    phases: dict[str, int] = {}
    relayed.client.upload_tar(
        relayed.name, archive.path, progress=lambda phase, _, total: phases.update({phase: total})
    )
    assert relayed.relay.bytes_to_server - before < len(archive.data) - stored + MIB
    # A part whose last bytes were in the relay when the process was killed may have been stored since.
    assert stored <= phases["resume"] <= stored + 20 * MIB
    assert relayed.stored()[0] == archive.data
    assert relayed.journal(archive).read() is None


def test_ctrl_c_ends_at_once_with_advice_to_resume(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    assert relayed.relay
    proxy, archive = relayed.relay, four_parts(tmp_path)
    proxy.always = Fault(stall_after=0, only=b"PUT ")
    with uploading_process(relayed, archive, state_home) as process:
        wait_until(lambda: any(b"PUT" in request for request in proxy.requests))
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    proxy.always = Fault()
    relayed.upload(archive)
    assert relayed.stored()[0] == archive.data
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{1:012d}.tar")


def test_a_part_with_other_bytes_than_the_file_is_sent_again(site: Site, tmp_path: Path, state_home: Path) -> None:
    archive = four_parts(tmp_path)
    upload_and_kill(site, archive, state_home, 41 * MIB)
    (first,) = site.sign_parts(site.journal_entry(archive).upload_id, 1).parts
    put(first.presigned_url, bytes(20 * MIB))
    time.sleep(1.1)  # S3 orders two versions of a part by whole seconds
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_an_upload_starts_over_if_its_file_was_modified_since(site: Site, tmp_path: Path, state_home: Path) -> None:
    upload_and_kill(site, four_parts(tmp_path), state_home, 21 * MIB)
    other = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 5, seed=2)
    site.upload(other)
    assert site.stored()[0] == other.data
    assert site.client.list_dataranges(site.name)[0].object_key.endswith(f"{2:012d}.tar")


def test_an_upload_that_the_server_has_ended_is_started_again(site: Site, tmp_path: Path, state_home: Path) -> None:
    archive = four_parts(tmp_path)
    upload_and_kill(site, archive, state_home, 21 * MIB)
    site.client.clear_datas3t(site.name)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_after_a_crash_that_follows_the_completion_nothing_is_sent_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        site.upload(archive)
    assert site.journal_entry(archive).sent
    assert site.client.upload_tar(site.name, archive.path) == Uploaded(5, 6, len(archive.data))
    assert len(site.objects()) == 3
    assert site.journal(archive).read() is None


def test_a_datarange_that_was_deleted_since_is_uploaded_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        site.upload(archive)
    site.client.delete_dataranges(site.name, 5, 6)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_after_a_crash_before_the_completion_nothing_is_sent_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = four_parts(tmp_path)

    def crash(upload: OpenUpload, etags: object) -> None:
        raise SystemExit

    with monkeypatch.context() as crashing:
        crashing.setattr(OpenUpload, "complete", crash)
        with pytest.raises(SystemExit):
            site.upload(archive)
    seen: list[str] = []
    site.client.upload_tar(site.name, archive.path, progress=lambda phase, current, total: seen.append(phase))
    assert "upload" not in seen
    assert site.stored()[0] == archive.data


@pytest.mark.parametrize("text", ["", "{", "[]", '{"upload": 1}', '{"upload": {"upload_id": 1}}'])
def test_a_damaged_journal_is_ignored(site: Site, tmp_path: Path, state_home: Path, text: str) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    site.journal(archive).write(JournalEntry(1))
    (path,) = (state_home / "datas3t/uploads").iterdir()
    path.write_text(text)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_old_journals_are_removed(site: Site, tmp_path: Path, state_home: Path) -> None:
    old = sample(tmp_path / "1.tar", 5, 10)
    site.journal(old).write(JournalEntry(1))
    (path,) = (state_home / "datas3t/uploads").iterdir()
    os.utime(path, (1, 1))
    site.journal(sample(tmp_path / "2.tar", 6, 10)).write(JournalEntry(2))
    assert site.journal(old).read() is None
