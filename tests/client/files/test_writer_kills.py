"""Writers that are killed, at any step, or cut off from the server or S3: nothing is lost or doubled."""

import contextlib
import io
import itertools
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import datas3t.client
from datas3t.client import (
    AlreadyExists,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    FileError,
    TransferFailed,
    Unavailable,
)
from datas3t.client._files._writer import sending, uploader
from datas3t.client._files._writer.spool import Spool
from datas3t.client._transfers.open_upload import OpenUpload
from tests.client.files import nursery
from tests.client.files.nursery import Child, Nursery
from tests.client.sites import Site
from tests.support.faults import Fault, relay
from tests.support.interrupts import Injector, Interrupted, places
from tests.support.stack import wait_until
from tests.support.tars import archive

SMALL = 4 << 10
FILES = Path(datas3t.client.__file__).parent / "_files"
WRITING = Path(datas3t.client.__file__).parent / "_files" / "_writer"
TASK = Path(datas3t.client.__file__).parent / "_transfers" / "task.py"


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Return what starts processes."""
    started = Nursery(tmp_path_factory.mktemp("nursery"))
    yield started
    started.close()


def acknowledged(child: Child) -> dict[int, int]:
    """Return the number of each datapoint that a process has acknowledged, by key."""
    return dict(map(int, line.split()) for line in child.lines if line not in ("open", "done"))  # type: ignore[misc]


def check(client: Client, name: str, known: dict[int, int], numbers: range, unsure: int) -> None:
    """Check that everything acknowledged is there once, and at most `unsure` others."""
    found = {each.key: each for each in client.datas3t(name).scan()}
    numbered = {key: int(each.content.split(b" ", 1)[0]) for key, each in found.items()}
    assert known.items() <= numbered.items()
    assert len(found) <= len(known) + unsure
    assert len(set(numbered.values())) == len(numbered)
    for key, number in numbered.items():
        assert number in numbers
        assert found[key].content == nursery.content(number)
        assert found[key].name.endswith(".txt")

    # The rows of both tables are those of the datapoints.
    handle = client.datas3t(name)
    files, labels = (handle.table(table).read().to_pylist() for table in ("files", "labels"))
    assert {row["key"]: row["path"] for row in files} == {key: nursery.path(each) for key, each in numbered.items()}
    assert {row.pop("key"): {name: value for name, value in row.items() if value is not None} for row in labels} == {
        key: nursery.columns(number) for key, number in numbered.items()
    }


@pytest.mark.parametrize("threads", [1, 4])
def test_a_writer_that_is_killed_again_and_again_loses_and_doubles_nothing(
    client: Client, datas3t: str, processes: Nursery, threads: int
) -> None:
    chance = random.Random(threads)
    known: dict[int, int] = {}
    rounds = 3
    for start in range(0, rounds * 10_000, 10_000):
        child = processes.start(nursery.append, client.url, datas3t, "mine", start, start + 10_000, threads)
        child.read(chance.randrange(1, 100))
        child.kill()
        assert not known.keys() & acknowledged(child).keys()
        known |= acknowledged(child)
    client.writer(datas3t, writer_id="mine").close()
    check(client, datas3t, known, range(rounds * 10_000), rounds * threads)


def test_writers_with_ids_of_their_own_append_at_once(client: Client, datas3t: str, processes: Nursery) -> None:
    children = [
        processes.start(nursery.append, client.url, datas3t, f"writer-{start}", start, start + 12, 1)
        for start in range(0, 8 * 12, 12)
    ]
    assert [child.rest()[-1] for child in children] == ["done"] * 8
    known = {key: number for child in children for key, number in acknowledged(child).items()}
    assert sorted(known.values()) == list(range(8 * 12))
    check(client, datas3t, known, range(8 * 12), 0)


def test_a_writer_that_was_killed_can_be_followed_at_once(client: Client, datas3t: str, processes: Nursery) -> None:
    child = processes.start(nursery.append, client.url, datas3t, "mine", 0, 10_000, 1)
    assert child.read(1) == ["open"]
    with pytest.raises(FailedPrecondition, match="in use"):
        client.writer(datas3t, writer_id="mine")
    child.read(20)
    child.kill()
    with client.writer(datas3t, writer_id="mine", table="labels") as out:
        out.append(nursery.content(10_000), path=nursery.path(10_000), **nursery.columns(10_000))
    check(client, datas3t, acknowledged(child), range(10_001), 2)


def test_a_forked_child_is_refused_and_leaves_everything_as_it_is(
    client: Client, datas3t: str, processes: Nursery
) -> None:
    *refused, done = processes.start(nursery.fork, client.url, datas3t).rest()
    assert done == "done"
    assert refused == ["a writer belongs to the process that opened it; open another one in this process"] * 2
    assert [each.content for each in client.datas3t(datas3t).scan()] == [b"one", b"two"]


def left_behind(client: Client, name: str, writer_id: str) -> dict[int, bytes]:
    """Append with an exception before anything is uploaded, and return what the spool holds."""
    appended: dict[int, bytes] = {}
    with contextlib.suppress(Interrupted), client.writer(name, writer_id=writer_id, table="labels") as out:
        for number in range(2):
            content = f"{writer_id} {number}".encode()
            appended[out.append(content, path=f"{writer_id}/{number}", label=content)] = content
        raise Interrupted
    return appended


@pytest.mark.parametrize("where", [WRITING, TASK], ids=lambda path: path.stem)
def test_an_upload_that_is_killed_at_any_step_is_finished_once(
    client: Client, datas3t: str, processes: Nursery, where: Path
) -> None:
    expected = left_behind(client, datas3t, "traced")
    steps = list(places(where, lambda: nursery.upload_spool(client, datas3t, "traced")))
    ended: list[list[str]] = []
    for number, place in enumerate(steps[:: len(steps) // 7]):
        writer_id = f"writer-{number}"
        expected |= left_behind(client, datas3t, writer_id)
        child = processes.start(nursery.die_uploading, client.url, datas3t, writer_id, str(where), *place)
        ended.append(child.rest())
        client.writer(datas3t, writer_id=writer_id).close()
    # A line that runs once more or less often from one run to the next may not be reached. Then the upload ends.
    assert ended.count([]) >= len(ended) - 2
    assert all(lines in ([], ["done"]) for lines in ended)
    handle = client.datas3t(datas3t)
    assert {each.key: each.content for each in handle.scan()} == expected
    assert handle.table("labels").read().to_pylist() == [
        {"key": key, "label": expected[key]} for key in sorted(expected)
    ]
    assert handle.paths(sorted(expected)) == [expected[key].decode().replace(" ", "/") for key in sorted(expected)]


def test_a_completion_whose_answer_is_lost_is_not_repeated(
    client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = OpenUpload.complete

    def lost(self: OpenUpload, etags: list[str]) -> None:
        complete(self, etags)
        raise DeadlineExceeded("the answer was lost")

    with client.writer(datas3t, writer_id="mine") as out:
        out.append(b"one")
        with monkeypatch.context() as patched:
            patched.setattr(OpenUpload, "complete", lost)
            with pytest.raises(DeadlineExceeded, match="lost"):
                out.flush()
        out.append(b"two")
    assert [each.content for each in client.datas3t(datas3t).scan()] == [b"one", b"two"]


def test_what_was_deleted_after_its_commit_does_not_come_back(
    client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = client.writer(datas3t, writer_id="mine")
    key = out.append(b"one")
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "remove", lambda _: os_error())
        with pytest.raises(FileError):
            out.close()
    assert client.datas3t(datas3t).get(key) == b"one"
    client.datas3t(datas3t).delete_dataranges(key, key)
    client.writer(datas3t, writer_id="mine").close()
    assert not client.list_dataranges(datas3t)


def os_error() -> None:
    raise FileError("the spool cannot be removed")


def test_a_spool_whose_journal_is_lost_is_not_committed_twice(client: Client, datas3t: str, state_home: Path) -> None:
    expected = left_behind(client, datas3t, "mine")
    (folder,) = (state_home / "datas3t" / "writers").glob("*/mine")
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    client.writer(datas3t, writer_id="mine").close()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    client.writer(datas3t, writer_id="mine").close()
    assert not list(folder.glob("*.tar"))
    assert {each.key: each.content for each in client.datas3t(datas3t).scan()} == expected


def test_keys_that_others_have_taken_are_an_error_that_keeps_the_spool(
    site: Site, state_home: Path, tmp_path: Path
) -> None:
    client = site.client
    left_behind(client, site.name, "mine")
    (folder,) = (state_home / "datas3t" / "writers").glob("*/mine")
    with Client(client.url) as other:  # as after a database was lost, which forgets reservations
        reservation = json.loads((folder / "keys.json").read_bytes())["reservation_id"]
        path = tmp_path / "other.tar"
        path.write_bytes(archive(1, [b"mine 0", b"other"]))
        other.datas3t(site.name).upload_tar(path, reservation_id=reservation)
    with pytest.raises(AlreadyExists, match="belong to others now: move"):
        client.writer(site.name, writer_id="mine").close()
    assert list(folder.glob("*.tar"))
    assert [each.content for each in client.datas3t(site.name).scan()] == [b"mine 0", b"other"]


def test_a_server_that_is_away_for_a_while(client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(client.url, per_connection=True) as between, Client(between.url) as through:
        out = through.writer(datas3t, archive_size=SMALL, writer_id="mine")
        keys = [out.append(b"x" * 900)]
        out.flush()
        with between.down(), monkeypatch.context() as patched:
            patched.setattr(sending, "PATIENCE", 0.2)
            with pytest.raises(Unavailable):  # noqa: PT012
                while True:
                    keys.append(out.append(b"x" * 900))
            assert len(keys) > 5
            with pytest.raises(Unavailable):
                out.flush()
        keys.append(out.append(b"y"))
        out.close()
    assert list(client.datas3t(datas3t).keys) == keys == list(range(1, len(keys) + 1))


def test_s3_that_is_away_for_a_while(relayed: Site) -> None:
    out = relayed.client.writer(relayed.name, writer_id="mine", max_retries=0)
    out.append(b"one")
    assert relayed.relay
    with relayed.relay.down(), pytest.raises((TransferFailed, Unavailable)):
        out.flush()
    out.append(b"two")
    out.close()
    assert [each.content for each in relayed.client.datas3t(relayed.name).scan()] == [b"one", b"two"]


@pytest.mark.parametrize("flushes", [False, True])
def test_an_interruption_at_any_line_loses_and_doubles_nothing(client: Client, datas3t: str, flushes: bool) -> None:
    numbers = itertools.count()
    out = client.writer(datas3t, archive_size=SMALL, writer_id="mine", table="labels")
    begun: set[bytes] = set()
    returned: dict[int, bytes] = {}

    def step() -> None:
        content = b"%d " % next(numbers) * 150
        begun.add(content)
        returned[out.append(content, path="a", label="cat")] = content
        if flushes:
            out.flush()

    step()
    every = list(places(FILES, step))
    interrupted = 0
    for place in every[:: 6 if flushes else 1]:
        try:
            with Injector(FILES, place):
                step()
        except Interrupted:
            interrupted += 1
        step()
    out.close()
    assert interrupted > 5
    stored = {each.key: each.content for each in client.datas3t(datas3t).scan()}
    assert returned.items() <= stored.items()
    assert set(stored.values()) <= begun
    assert len(set(stored.values())) == len(stored) <= len(returned) + interrupted
    client.writer(datas3t, writer_id="mine").close()  # removes an empty spool, whose making was interrupted
    assert not list(out._folder.path.glob("*.tar"))


def test_parts_that_s3_has_are_not_sent_again(relayed: Site) -> None:
    between = relayed.relay
    assert between
    content = random.Random(1).randbytes(21 << 20)
    out = relayed.client.writer(relayed.name, max_parallelism=1, max_retries=0)
    key = out.append(io.BytesIO(content), path="large.bin")
    between.rule = lambda line: Fault(refuse=b"partNumber=2" in line)
    with pytest.raises(TransferFailed):
        out.flush()
    between.rule = None
    before = len(between.requests)
    out.close()
    sent = [line for line in between.requests[before:] if line.startswith(b"PUT ")]
    assert any(b"partNumber=2" in line for line in sent)
    assert not any(b"partNumber=1" in line for line in sent)
    assert relayed.client.datas3t(relayed.name).get(key) == content


def test_a_full_disk_is_a_typed_error_and_nothing_is_lost(client: Client, datas3t: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    appended: dict[int, bytes] = {}
    with client.writer(datas3t, writer_id="mine") as out:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            with pytest.raises(FileError, match="cannot be written: File too large"):
                out.append(b"nothing fits")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
            with pytest.raises(FileError, match=r"spool .* cannot be written: File too large"):  # noqa: PT012
                for number in range(100):
                    content = bytes([number]) * 3_000
                    appended[out.append(io.BytesIO(content) if number % 2 else content)] = content
            small = b"small"
            appended[out.append(small)] = small
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        appended[out.append(b"after")] = b"after"
    assert 10 < len(appended) < 20
    assert {each.key: each.content for each in client.datas3t(datas3t).scan()} == appended


def test_an_exception_ends_an_upload_that_is_under_way(relayed: Site) -> None:
    between = relayed.relay
    assert between
    out = relayed.client.writer(relayed.name, archive_size=SMALL, writer_id="mine")
    between.rule = lambda line: Fault(stall_after=0) if line.startswith(b"PUT ") else Fault()
    contents = [b"%d" % number * 900 for number in range(5)]
    for content in contents:
        out.append(content)
    wait_until(lambda: any(line.startswith(b"PUT ") for line in between.requests), what="a PUT")
    began = time.monotonic()
    out.__exit__(Interrupted, Interrupted(), None)
    with pytest.raises(FailedPrecondition, match="closed"):
        out.flush()
    assert time.monotonic() - began < uploader._MAX_WAIT
    between.rule = None
    between.cut_all()
    relayed.client.writer(relayed.name, writer_id="mine").close()
    assert [each.content for each in relayed.client.datas3t(relayed.name).scan()] == contents


def test_an_id_is_free_when_its_writer_has_ended_in_a_call_that_takes_long(relayed: Site) -> None:
    between = relayed.relay
    assert between
    out = relayed.client.writer(relayed.name, archive_size=SMALL, writer_id="mine")
    before = len(between.requests)
    between.rule = lambda line: Fault() if line.startswith(b"PUT ") else Fault(stall_after=0)  # of the completion
    contents = [b"%d" % number * 900 for number in range(5)]
    for content in contents:
        out.append(content)
    wait_until(lambda: not all(line.startswith(b"PUT ") for line in between.requests[before:]), what="the completion")
    out.__exit__(ValueError, ValueError(), None)
    again = relayed.client.writer(relayed.name, writer_id="mine")
    between.rule = None
    between.cut_all()
    again.close()
    assert [each.content for each in relayed.client.datas3t(relayed.name).scan()] == contents
