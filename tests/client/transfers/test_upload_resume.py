"""Uploads that were cut off: killed, interrupted, or ended between two steps. The same upload goes on."""

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
        print("there", flush=True)
        time.sleep(600)

with Client(url) as client:
    try:
        client.upload_tar(name, path, max_parallelism=1, progress=progress)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
print("done")
"""


def large(folder: Path) -> Sample:
    """An archive of four parts."""
    return sample(folder / "1.tar", 1, *[9 * MIB] * 7)


@contextmanager
def in_a_process(site: Site, archive: Sample, state: Path, stop_at: int = 1 << 60) -> Iterator[Process]:
    """Uploads in a process of its own, which waits where so many bytes are sent."""
    command = ["-c", UPLOAD, site.client.url, site.name, str(archive.path), str(stop_at)]
    process = Process(command, archive.path.with_suffix(".log"), {"XDG_STATE_HOME": str(state)})
    try:
        yield process
    finally:
        process.kill()


def killed(site: Site, archive: Sample, state: Path, at: int) -> None:
    """Uploads in a process that is killed where so many bytes are sent."""
    with in_a_process(site, archive, state, at) as process:
        wait_until(lambda: "there" in process.log or not process.running)
    assert process.log == "there\n"


def test_after_kill_9_the_same_upload_sends_only_what_is_missing(
    relayed: Site, tmp_path: Path, state_home: Path
) -> None:
    assert relayed.relay
    archive = large(tmp_path)
    killed(relayed, archive, state_home, 41 * MIB)
    there = sum(part.size for part in relayed.signed(relayed.begun(archive).upload_id).uploaded_parts)
    assert there >= 40 * MIB
    before = relayed.relay.bytes_to_server
    phases: dict[str, int] = {}
    relayed.client.upload_tar(
        relayed.name, archive.path, progress=lambda phase, _, total: phases.update({phase: total})
    )
    assert relayed.relay.bytes_to_server - before < len(archive.data) - there + MIB
    assert phases["resume"] == there
    assert relayed.stored()[0] == archive.data
    assert relayed.journal(archive).read() is None


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    assert relayed.relay
    between, archive = relayed.relay, large(tmp_path)
    between.always = Fault(stall_after=0, only=b"PUT ")
    with in_a_process(relayed, archive, state_home) as process:
        wait_until(lambda: any(b"PUT" in request for request in between.requests))
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    between.always = Fault()
    relayed.upload(archive)
    assert relayed.stored()[0] == archive.data
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{1:012d}.tar")


def test_a_part_that_is_not_the_files_is_sent_again(site: Site, tmp_path: Path, state_home: Path) -> None:
    archive = large(tmp_path)
    killed(site, archive, state_home, 41 * MIB)
    (first,) = site.signed(site.begun(archive).upload_id, 1).parts
    put(first.presigned_url, bytes(20 * MIB))
    time.sleep(1.1)  # S3 tells which of two came later by the second
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_a_file_that_was_written_to_since_is_uploaded_anew(site: Site, tmp_path: Path, state_home: Path) -> None:
    killed(site, large(tmp_path), state_home, 21 * MIB)
    other = sample(tmp_path / "1.tar", 1, *[9 * MIB] * 5, seed=2)
    site.upload(other)
    assert site.stored()[0] == other.data
    assert site.client.list_dataranges(site.name)[0].object_key.endswith(f"{2:012d}.tar")


def test_an_upload_that_the_server_has_ended_is_started_anew(site: Site, tmp_path: Path, state_home: Path) -> None:
    archive = large(tmp_path)
    killed(site, archive, state_home, 21 * MIB)
    site.client.clear_datas3t(site.name)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_a_crash_behind_the_acknowledgement_uploads_nothing_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        site.upload(archive)
    assert site.begun(archive).sent
    assert site.client.upload_tar(site.name, archive.path) == Uploaded(5, 6, len(archive.data))
    assert len(site.objects()) == 2
    assert site.journal(archive).read() is None


def test_what_was_deleted_since_is_uploaded_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        site.upload(archive)
    site.client.delete_dataranges(site.name, 5, 6)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_a_crash_before_the_completion_completes_without_sending(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = large(tmp_path)

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
def test_a_journal_that_makes_no_sense_counts_for_nothing(
    site: Site, tmp_path: Path, state_home: Path, text: str
) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20)
    site.journal(archive).write(JournalEntry(1))
    (path,) = (state_home / "datas3t/uploads").iterdir()
    path.write_text(text)
    site.upload(archive)
    assert site.stored()[0] == archive.data


def test_journals_that_are_long_dead_go(site: Site, tmp_path: Path, state_home: Path) -> None:
    dead = sample(tmp_path / "1.tar", 5, 10)
    site.journal(dead).write(JournalEntry(1))
    (path,) = (state_home / "datas3t/uploads").iterdir()
    os.utime(path, (1, 1))
    site.journal(sample(tmp_path / "2.tar", 6, 10)).write(JournalEntry(2))
    assert site.journal(dead).read() is None
