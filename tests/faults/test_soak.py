"""A short soak run, and tests that the soak run would notice a broken guarantee."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.faults import pusher, tables
from tests.faults.soak import NAME, PUSHED, Soak, check, expected
from tests.faults.soak_bucket import BrokenGuaranteeError
from tests.faults.writer import SPAN, content
from tests.support.tars import archive

ROOT = Path(__file__).parents[2]
SEED = 7


@pytest.mark.timeout(300)
def test_a_short_run_breaks_no_guarantee(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.soak", "--seconds", "25", "--seed", str(SEED)]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {SEED}, 25 seconds" in done.stdout
    counts = {what: int(count.replace(",", "")) for count, what in re.findall(r"^ *([\d,]+)  (.+)$", done.stdout, re.M)}
    assert counts["upload done"] > 5
    assert counts["add done"] + counts["together done"] + counts["reserved"] > 0
    assert counts["datapoints checked"] > 0
    assert "appended datapoints checked" in counts
    assert "pushed datapoints checked" in counts
    assert all(counts[f"{method} read"] > 0 for method in ("get", "get_many", "scan", "presigned"))
    assert sum(count for what, count in counts.items() if what.startswith("kill -9")) > 3


@pytest.mark.timeout(300)
def test_lost_changed_and_leftover_data_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log = tmp_path / "writer-0/log"
    log.parent.mkdir()
    with services(tmp_path / "data", durable=False) as running:
        run = Soak(tmp_path, SEED, running)
        try:
            with Client(run.urls[0]) as client:
                path = tmp_path / "a.tar"
                path.write_bytes(archive(SPAN, [content(key, 1) for key in range(SPAN, SPAN + 3)]))
                client.upload_tar(NAME, path)
            note(log, "upload", SPAN, SPAN + 2, 1)
            check(run)
            _wrong_pushes_are_noticed(run)
            of_tables = tmp_path / "tables-4/log"
            of_tables.parent.mkdir()
            with Client(run.urls[0]) as client:
                client.add_datas3t(tables.NAME, bucket="local")
            of_tables.write_text(json.dumps({"what": "done", "operation": "add", "id": 7}) + "\n")
            with pytest.raises(BrokenGuaranteeError, match="1 acknowledged table files are missing, the first 7"):
                check(run)
            spans = ({"what": "reserved", "first": first, "last": first + 1} for first in (1, 2))
            of_tables.write_text("".join(json.dumps(each) + "\n" for each in spans))
            with pytest.raises(BrokenGuaranteeError, match="keys 2 to 2 were reserved twice"):
                check(run)
            of_tables.unlink()
            note(log, "upload", SPAN + 3, SPAN + 3, 2)
            with pytest.raises(BrokenGuaranteeError, match="1 acknowledged datapoints are missing, the first 1000003"):
                check(run)
            log.write_text("")
            with pytest.raises(BrokenGuaranteeError, match="3 datapoints should not exist"):
                check(run)
            note(log, "upload", SPAN, SPAN + 2, 9)
            with pytest.raises(BrokenGuaranteeError, match="datapoint 1000000 has a content that was not uploaded"):
                check(run)
            log.write_text("")
            note(log, "upload", SPAN, SPAN + 2, 1)
            key = "datas3t/soak/dataranges/left.tar"
            running.seaweedfs.client().put_object(Bucket=running.s3.bucket, Key=key, Body=b"x")
            with pytest.raises(BrokenGuaranteeError, match="1 objects are in the bucket but not in the database"):
                check(run)
        finally:
            run.close()


def _wrong_pushes_are_noticed(run: Soak) -> None:
    log, source, path = run.folder / "pusher-6/log", run.folder / "source", "9/0/1.bin"
    file = source / path
    for folder in (log.parent, file.parent):
        folder.mkdir(parents=True)
    file.write_bytes(pusher.content(path, 1))
    made = {"what": "made", "path": path, "number": 1}
    pushed = {"what": "done", "operation": "push", "files": {path: 1}}
    labelled = {"what": "done", "operation": "label", "keys": [1], "number": 5}

    def logged(*lines: object) -> None:
        log.write_text("".join(json.dumps(each) + "\n" for each in lines))

    with Client(run.urls[0]) as client:
        handle = client.datas3t(PUSHED)
        handle.push(source)
        logged(made, pushed)
        check(run)
        right = pusher.File.of(path, pusher.content(path, 1))
        assert not list(pusher.broken_files(handle, {1: right}))
        (broken,) = pusher.broken_files(handle, {1: right._replace(crc=7)})
        assert "1 rows of the table 'files' of pushed do not agree with the archives" in broken
        for lines, message in (
            ([made, pushed | {"files": {path: 2}}], "1 pushed files of pushed are missing"),
            ([made | {"number": 2}], "datapoint 1 of pushed has a content that was not pushed"),
            ([made, labelled], "the label of datapoint 1 is None, but 5 was acknowledged"),
            ([made, {"what": "wrong", "error": "x"}], "a pusher has found: x"),
        ):
            logged(*lines)
            with pytest.raises(BrokenGuaranteeError, match=message):
                check(run)
        handle.table(pusher.LABELS).append([{"key": 1, "number": 6, "owner": "9"}])
        logged(made, labelled)
        with pytest.raises(BrokenGuaranteeError, match="the label of datapoint 1 is 6, which was not appended"):
            check(run)
        os.utime(file, (0, 0))
        handle.push(source)
        logged(made)
        with pytest.raises(BrokenGuaranteeError, match=r"version 1 of 9/0/1\.bin is there twice, as 1 and 2"):
            check(run)
    log.unlink()


def test_operations_without_acknowledgement_may_have_happened_or_not(tmp_path: Path) -> None:
    log = tmp_path / "writer-0/log"
    log.parent.mkdir()
    note(log, "upload", 1, 2, 1)
    note(log, "upload", 3, 3, 2, "begin")
    note(log, "delete", 1, 1, 3, "begin")
    assert expected(tmp_path) == ({2: 1}, {1: {1}, 3: {2}})
    note(log, "delete", 1, 1, 3)
    assert expected(tmp_path) == ({2: 1}, {3: {2}})


def test_only_one_of_two_overlapping_uploads_may_be_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "writer-0/log"
    log.parent.mkdir()
    note(log, "upload", 1, 2, 1, "begin")
    note(log, "upload", 2, 3, 2, "begin")
    assert expected(tmp_path) == ({}, {1: {1}, 2: {1, 2}, 3: {2}})
    note(log, "upload", 2, 3, 2)
    assert expected(tmp_path) == ({2: 2, 3: 2}, {1: {1}})
    note(log, "upload", 1, 2, 1)
    with pytest.raises(BrokenGuaranteeError, match="two uploads of datapoint 2"):
        expected(tmp_path)


@pytest.mark.parametrize(("what", "message"), [("wrong", "read a wrong content"), ("lost", "did not find datapoint 7")])
def test_a_failure_that_a_writer_has_logged_is_a_broken_guarantee(tmp_path: Path, what: str, message: str) -> None:
    log = tmp_path / "writer-0/log"
    log.parent.mkdir()
    note(log, "read", 7, 7, 1, what)
    with pytest.raises(BrokenGuaranteeError, match=message):
        expected(tmp_path)


def note(log: Path, operation: str, first: int, last: int, number: int, what: str = "done") -> None:
    """Add an entry to a writer's log."""
    entry = {"what": what, "operation": operation, "first": first, "last": last, "number": number}
    with log.open("a") as out:
        out.write(json.dumps(entry) + "\n")
