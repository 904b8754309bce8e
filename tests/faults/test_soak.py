"""Half a minute of the soak run; and that it can fail: a broken guarantee is noticed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.faults.owner import SPAN, content
from tests.faults.soak import NAME, BrokenGuaranteeError, Soak, check, expected
from tests.support.tars import archive

ROOT = Path(__file__).parents[2]
SEED = 7


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_overlapping_or_left_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.soak", "--seconds", "25", "--seed", str(SEED)]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {SEED}, 25 seconds" in done.stdout
    counts = {what: int(count.replace(",", "")) for count, what in re.findall(r"^ *([\d,]+)  (.+)$", done.stdout, re.M)}
    assert counts["upload done"] > 5
    assert counts["datapoints checked"] > 0
    assert all(counts[f"{way} read"] > 0 for way in ("get", "get_many", "scan", "follow"))
    assert sum(count for what, count in counts.items() if what.startswith("kill -9")) > 3


@pytest.mark.timeout(300)
def test_what_is_lost_changed_or_left_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log = tmp_path / "owner-0/log"
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
            note(log, "upload", SPAN + 3, SPAN + 3, 2)
            with pytest.raises(BrokenGuaranteeError, match="1 acknowledged datapoints are gone, the first 1000003"):
                check(run)
            log.write_text("")
            with pytest.raises(BrokenGuaranteeError, match="3 datapoints are there that should not be"):
                check(run)
            note(log, "upload", SPAN, SPAN + 2, 9)
            with pytest.raises(BrokenGuaranteeError, match="datapoint 1000000 has other bytes"):
                check(run)
            log.write_text("")
            note(log, "upload", SPAN, SPAN + 2, 1)
            key = "datas3t/soak/dataranges/left.tar"
            running.seaweedfs.client().put_object(Bucket=running.s3.bucket, Key=key, Body=b"x")
            with pytest.raises(BrokenGuaranteeError, match="1 objects are in the bucket that no row names"):
                check(run)
        finally:
            run.close()


def test_what_was_not_answered_may_be_either_way(tmp_path: Path) -> None:
    log = tmp_path / "owner-0/log"
    log.parent.mkdir()
    note(log, "upload", 1, 2, 1)
    note(log, "upload", 3, 3, 2, "begin")
    note(log, "delete", 1, 1, 3, "begin")
    assert expected(tmp_path) == ({2: 1}, {1: {1}, 3: {2}})
    note(log, "delete", 1, 1, 3)
    assert expected(tmp_path) == ({2: 1}, {3: {2}})


def test_of_two_uploads_that_overlap_one_may_be_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "owner-0/log"
    log.parent.mkdir()
    note(log, "upload", 1, 2, 1, "begin")
    note(log, "upload", 2, 3, 2, "begin")
    assert expected(tmp_path) == ({}, {1: {1}, 2: {1, 2}, 3: {2}})
    note(log, "upload", 2, 3, 2)
    assert expected(tmp_path) == ({2: 2, 3: 2}, {1: {1}})
    note(log, "upload", 1, 2, 1)
    with pytest.raises(BrokenGuaranteeError, match="two uploads of datapoint 2"):
        expected(tmp_path)


@pytest.mark.parametrize(("what", "message"), [("wrong", "got other bytes"), ("lost", "did not find datapoint 7")])
def test_what_a_reader_has_noted_is_a_broken_guarantee(tmp_path: Path, what: str, message: str) -> None:
    log = tmp_path / "owner-0/log"
    log.parent.mkdir()
    note(log, "read", 7, 7, 1, what)
    with pytest.raises(BrokenGuaranteeError, match=message):
        expected(tmp_path)


def note(log: Path, operation: str, first: int, last: int, number: int, what: str = "done") -> None:
    entry = {"what": what, "operation": operation, "first": first, "last": last, "number": number}
    with log.open("a") as out:
        out.write(json.dumps(entry) + "\n")
