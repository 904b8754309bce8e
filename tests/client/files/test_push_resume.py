"""Pushes that were killed or interrupted: the same push, run again, resumes them."""

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from datas3t.client import FailedPrecondition, TransferFailed
from datas3t.client._files.push_journal import PushJournal
from datas3t.client._transfers.open_upload import OpenUpload
from tests.client.files.folders import filled
from tests.client.sites import Site
from tests.support.faults import Fault
from tests.support.stack import Process, wait_until

_PATIENCE = 90.0  # seconds for a child process to start and to send 40 MiB, on a machine that does much else

PUSH = """
import sys
from datas3t.client import Client, Interrupted

url, name, source, archive_size, parallelism = sys.argv[1:]
with Client(url) as client:
    try:
        client.datas3t(name).push(source, archive_size=int(archive_size), max_parallelism=int(parallelism))
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
print("done")
"""


@contextmanager
def pushing(
    site: Site, source: Path, state: Path, archive_size: int = 1 << 30, parallelism: int = 1
) -> Iterator[Process]:
    """Push in a child process."""
    command = ["-c", PUSH, site.client.url, site.name, str(source), str(archive_size), str(parallelism)]
    process = Process(command, source.with_suffix(".log"), {"XDG_STATE_HOME": str(state)})
    try:
        yield process
    finally:
        process.kill()


def large_files(folder: Path) -> Path:
    """Write files whose archive has two parts of 20 MiB, and one of 5."""
    seeded = random.Random(1)
    return filled(folder, {f"{number}.bin": seeded.randbytes(9 << 20) for number in range(5)})


def contents(site: Site) -> list[tuple[int, bytes]]:
    return [(each.key, each.content) for each in site.client.datas3t(site.name).scan()]


def test_after_kill_9_the_same_push_sends_only_missing_parts(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    proxy = relayed.relay
    assert proxy
    source = large_files(tmp_path / "in")
    proxy.plan(*[Fault(only=b"PUT ")] * 2)
    proxy.always = Fault(stall_after=0, only=b"PUT ")
    with pushing(relayed, source, state_home) as process:
        wait_until(lambda: sum(b"PUT" in line for line in proxy.requests) >= 3, _PATIENCE)
        assert process.running
    proxy.always = Fault()
    (journal,) = (state_home / "datas3t" / "pushes").glob("*/*.json")
    upload_id = json.loads(journal.read_bytes())["upload"]["upload_id"]
    stored = sum(part.size for part in relayed.sign_parts(upload_id).uploaded_parts)
    assert stored >= 20 << 20
    before = proxy.bytes_to_server
    relayed.client.datas3t(relayed.name).push(source, archive_size=1 << 30)
    # Some bytes of a part that was under way may have been in the relay.
    assert proxy.bytes_to_server - before < (46 << 20) - stored + (20 << 20)
    assert contents(relayed) == [(n + 1, (source / f"{n}.bin").read_bytes()) for n in range(5)]
    assert not list((state_home / "datas3t" / "pushes").glob("*"))
    assert not relayed.multiparts()


def test_ctrl_c_ends_at_once_with_advice_to_resume(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    proxy = relayed.relay
    assert proxy
    source = filled(tmp_path / "in", {str(number): os.urandom(2_000) for number in range(30)})
    proxy.always = Fault(stall_after=0, only=b"PUT ")
    with pushing(relayed, source, state_home, 10_000, 4) as process:
        wait_until(lambda: sum(b"PUT" in line for line in proxy.requests) >= 4, _PATIENCE)
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    proxy.always = Fault()
    relayed.client.datas3t(relayed.name).push(source, archive_size=10_000)
    assert sorted(content for _, content in contents(relayed)) == sorted(
        (source / str(number)).read_bytes() for number in range(30)
    )


def test_the_same_push_in_another_process_is_refused(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    proxy = relayed.relay
    assert proxy
    source = filled(tmp_path / "in", {"a": b"1"})
    proxy.always = Fault(stall_after=0, only=b"PUT ")
    with pushing(relayed, source, state_home):
        wait_until(lambda: any(b"PUT" in line for line in proxy.requests), _PATIENCE)
        with pytest.raises(FailedPrecondition, match="running already"):
            relayed.client.datas3t(relayed.name).push(source)


def reached(site: Site, process: Process, objects: int) -> bool:
    return len(site.objects()) >= objects or not process.running


def test_a_push_that_is_killed_again_and_again_makes_the_same_dataset(
    site: Site, tmp_path: Path, state_home: Path
) -> None:
    seeded = random.Random(3)
    source = filled(tmp_path / "in", {f"{n % 5}/{n}": seeded.randbytes(seeded.randrange(20_000)) for n in range(120)})
    for wanted in (12, 32):
        with pushing(site, source, state_home, 50_000, 3) as process:
            wait_until(partial(reached, site, process, wanted), _PATIENCE)
    images = site.client.datas3t(site.name)
    images.push(source, archive_size=50_000, max_parallelism=3)
    files = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.parts)
    assert [content for _, content in contents(site)] == [path.read_bytes() for path in files]
    assert images.paths(images.keys) == [str(path.relative_to(source)) for path in files]
    assert list(images.keys) == list(range(1, 121))
    assert images.push(source).files == 0
    unkilled = f"{site.name}-unkilled"
    site.client.add_datas3t(unkilled, bucket=site.bucket)
    site.client.datas3t(unkilled).push(source, archive_size=50_000)
    spans = [[(each.first, each.last) for each in site.client.list_dataranges(name)] for name in (site.name, unkilled)]
    assert spans[0] == spans[1]


def test_files_that_changed_since_a_push_was_killed_are_pushed_as_they_are_now(
    relayed: Site, tmp_path: Path, state_home: Path
) -> None:
    proxy = relayed.relay
    assert proxy
    source = large_files(tmp_path / "in")
    proxy.plan(*[Fault(only=b"PUT ")] * 2)
    proxy.always = Fault(stall_after=0, only=b"PUT ")
    with pushing(relayed, source, state_home):
        wait_until(lambda: sum(b"PUT" in line for line in proxy.requests) >= 3, _PATIENCE)
    proxy.always = Fault()
    (source / "2.bin").write_bytes(b"changed")
    images = relayed.client.datas3t(relayed.name)
    images.push(source, archive_size=1 << 30)
    assert images.get(images.find("2.bin")) == b"changed"
    assert sorted(content for _, content in contents(relayed)) == sorted(path.read_bytes() for path in source.iterdir())
    assert not relayed.multiparts()
    assert not list((state_home / "datas3t" / "pushes").glob("*"))


def test_what_was_sent_is_completed_before_other_files_of_its_archive_are_divided_anew(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_home: Path
) -> None:
    def dies(_: OpenUpload, __: Sequence[str]) -> None:
        raise TransferFailed("the process ends here")

    source = filled(tmp_path / "in", {"a.txt": b"1", "b.txt": b"22", "c.txt": b"333"})
    images = site.client.datas3t(site.name)
    with monkeypatch.context() as patch:
        patch.setattr(OpenUpload, "complete", dies)
        with pytest.raises(TransferFailed):
            images.push(source)
    (source / "b.txt").write_bytes(b"changed")
    pushed = images.push(source)
    assert (pushed.files, pushed.unchanged) == (1, 2)
    assert contents(site) == [(1, b"1"), (2, b"22"), (3, b"333"), (4, b"changed")]
    assert images.find("b.txt") == 4
    assert [each.extension for each in site.client.list_dataranges(site.name)] == ["txt", "txt"]
    assert not list((state_home / "datas3t" / "pushes").glob("*"))


def test_a_push_that_begins_when_another_ends_sends_nothing_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled(tmp_path / "in", {"a": b"1", "b": b"2"})
    images, locked = site.client.datas3t(site.name), PushJournal.locked

    @contextmanager
    def after_another(journal: PushJournal) -> Iterator[None]:
        monkeypatch.undo()
        assert images.push(source).files == 2
        with locked(journal):
            yield

    monkeypatch.setattr(PushJournal, "locked", after_another)
    assert images.push(source).files == 0
    assert contents(site) == [(1, b"1"), (2, b"2")]


def test_a_push_goes_on_after_s3_was_away(relayed: Site, tmp_path: Path) -> None:
    proxy = relayed.relay
    assert proxy
    source = filled(tmp_path / "in", {str(number): os.urandom(2_000) for number in range(40)})
    images = relayed.client.datas3t(relayed.name)
    faults = iter([Fault(), Fault(), Fault(cut_after=0), Fault(status=503), Fault(cut_request_after=100)] * 8)
    proxy.rule = lambda line: next(faults, Fault()) if b"PUT" in line else Fault()
    assert images.push(source, archive_size=10_000, max_retries=6).files == 40
    assert sorted(content for _, content in contents(relayed)) == sorted(path.read_bytes() for path in source.iterdir())
