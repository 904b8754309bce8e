"""Aggregates that were cut off: killed, interrupted, or ended between two steps. The same call goes on."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t import v1
from datas3t.client import InvalidArgument, Unavailable
from datas3t.client._transfers.journal import Journal
from datas3t.client._transfers.open_aggregate import OpenAggregate
from tests.client.archives import MIB, Sample
from tests.client.sites import Site
from tests.client.transfers.test_aggregate import COPY, check, uploaded
from tests.support.faults import Fault
from tests.support.stack import Process, wait_until

AGGREGATE = """
import sys, time
from datas3t.client import Client, Interrupted

url, name, last, stop_phase, stop_at = sys.argv[1:]

def progress(phase, current, total):
    if phase == stop_phase and current >= int(stop_at):
        print("there", flush=True)
        time.sleep(600)

with Client(url) as client:
    try:
        client.aggregate(name, 1, int(last), max_parallelism=1, progress=progress)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
print("done")
"""


def mixed(site: Site, folder: Path) -> list[Sample]:
    """Four archives that S3 copies, and small ones that fill a part of 21 MiB and the last one."""
    return uploaded(site, folder, *[[5 * MIB, 10]] * 2, *[[3 * MIB]] * 7, *[[6 * MIB, 10]] * 2, [10])


LAST = 16


@contextmanager
def in_a_process(site: Site, state: Path, log: Path, phase: str = "", at: int = 0) -> Iterator[Process]:
    """Aggregates in a process of its own, which waits at so many bytes of a phase."""
    command = ["-c", AGGREGATE, site.client.url, site.name, str(LAST), phase, str(at)]
    process = Process(command, log, {"XDG_STATE_HOME": str(state)})
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize(("phase", "at"), [("plan", 1), ("copy", 6 * MIB), ("move", 1), ("move", 30 * MIB)])
def test_after_kill_9_the_same_call_goes_on(
    relayed: Site, tmp_path: Path, state_home: Path, phase: str, at: int
) -> None:
    assert relayed.relay
    samples = mixed(relayed, tmp_path)
    with in_a_process(relayed, state_home, tmp_path / "log", phase, at) as process:
        wait_until(lambda: "there" in process.log or not process.running)
    assert process.log == "there\n"
    assert len(relayed.multiparts()) == 1
    before = len(relayed.relay.requests)
    done = relayed.client.aggregate(relayed.name, 1, LAST)
    repeated = sum(COPY in line for line in relayed.relay.requests[before:])
    assert repeated <= {"plan": 4, "copy": 2, "move": 0}[phase]
    assert done.bytes_copied <= repeated * 7 * MIB
    check(relayed, samples)
    assert relayed.multiparts() == []
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{len(samples) + 1:012d}.tar")
    assert relayed.aggregate_journal(1, LAST).read() is None


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    assert relayed.relay
    between, samples = relayed.relay, mixed(relayed, tmp_path)
    between.always = Fault(stall_after=0, only=COPY)
    with in_a_process(relayed, state_home, tmp_path / "log") as process:
        wait_until(lambda: any(COPY in request for request in between.requests))
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    between.always = Fault()
    relayed.client.aggregate(relayed.name, 1, LAST)
    check(relayed, samples)
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{len(samples) + 1:012d}.tar")


def test_a_crash_behind_the_acknowledgement_does_nothing_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = uploaded(site, tmp_path, [10], [20, 30])
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        first = site.client.aggregate(site.name, 1, 3)
    again = site.client.aggregate(site.name, 1, 3)
    assert (again.size, again.bytes_copied, again.bytes_moved) == (first.size, 0, 0)
    check(site, samples)
    with pytest.raises(InvalidArgument, match="two at least"):
        site.client.aggregate(site.name, 1, 3)


def test_what_was_uploaded_anew_since_is_aggregated_anew(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        uploaded(site, tmp_path, [10], [20, 30])
        site.client.aggregate(site.name, 1, 3)
    site.client.clear_datas3t(site.name)
    samples = uploaded(site, tmp_path, [100, 200], [300])
    site.client.aggregate(site.name, 1, 3)
    check(site, samples)


def test_a_crash_before_the_completion_makes_nothing_again(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    samples = mixed(relayed, tmp_path)

    def crash(aggregate: OpenAggregate, etags: object) -> None:
        raise SystemExit

    with monkeypatch.context() as crashing:
        crashing.setattr(OpenAggregate, "complete", crash)
        with pytest.raises(SystemExit):
            relayed.client.aggregate(relayed.name, 1, LAST)
    before = len(relayed.relay.requests)
    done = relayed.client.aggregate(relayed.name, 1, LAST)
    assert (done.bytes_copied, done.bytes_moved) == (0, 0)
    assert not any(line.startswith(b"PUT ") and b"partNumber" in line for line in relayed.relay.requests[before:])
    check(relayed, samples)


def test_a_lost_answer_to_the_completion_is_asked_for_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = uploaded(site, tmp_path, [10], [20, 30])
    complete, lost = OpenAggregate.complete, [True]

    def unheard(aggregate: OpenAggregate, etags: Sequence[str]) -> None:
        complete(aggregate, etags)
        if lost and lost.pop():
            raise Unavailable("the answer was lost")

    monkeypatch.setattr(OpenAggregate, "complete", unheard)
    site.client.aggregate(site.name, 1, 3)
    check(site, samples)


def test_one_that_the_server_has_ended_is_started_anew(site: Site, tmp_path: Path, state_home: Path) -> None:
    samples = mixed(site, tmp_path)
    with in_a_process(site, state_home, tmp_path / "log", "copy", 6 * MIB) as process:
        wait_until(lambda: "there" in process.log or not process.running)
    begun = site.aggregate_journal(1, LAST).read()
    assert begun
    site.client.connection.aggregate.CancelAggregate(v1.CancelAggregateRequest(aggregate_upload_id=begun.upload_id))
    site.client.aggregate(site.name, 1, LAST)
    check(site, samples)
    assert site.client.list_dataranges(site.name)[0].object_key.endswith(f"{len(samples) + 2:012d}.tar")


def test_s3_away_says_how_to_go_on(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    samples = mixed(relayed, tmp_path)
    relayed.relay.always = Fault(refuse=True, only=COPY)
    with pytest.raises(ConnectionError, match="run it again to resume"):
        relayed.client.aggregate(relayed.name, 1, LAST, max_retries=1)
    relayed.relay.always = Fault()
    relayed.client.aggregate(relayed.name, 1, LAST)
    check(relayed, samples)
