"""Aggregates that were killed, interrupted, or ended between two steps: the same call resumes them."""

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
from tests.client.transfers.test_aggregate import COPY, assert_merged, upload_all
from tests.support.faults import Fault
from tests.support.stack import Process, wait_until

AGGREGATE = """
import sys, time
from datas3t.client import Client, Interrupted

url, name, last, stop_phase, stop_at = sys.argv[1:]

def progress(phase, current, total):
    if phase == stop_phase and current >= int(stop_at):
        print("reached", flush=True)
        time.sleep(600)

with Client(url) as client:
    try:
        client.aggregate(name, 1, int(last), max_parallelism=1, progress=progress)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(130)
print("done")
"""


def upload_mixed(site: Site, folder: Path) -> list[Sample]:
    """Upload four archives that S3 copies, and small ones that fill a part of 21 MiB and the last part."""
    return upload_all(site, folder, *[[5 * MIB, 10]] * 2, *[[3 * MIB]] * 7, *[[6 * MIB, 10]] * 2, [10])


LAST = 16


@contextmanager
def aggregating_process(site: Site, state: Path, log: Path, phase: str = "", at: int = 0) -> Iterator[Process]:
    """Aggregate in a child process, which waits when `phase` has reached `at` bytes."""
    command = ["-c", AGGREGATE, site.client.url, site.name, str(LAST), phase, str(at)]
    process = Process(command, log, {"XDG_STATE_HOME": str(state)})
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize(("phase", "at"), [("plan", 1), ("copy", 6 * MIB), ("move", 1), ("move", 30 * MIB)])
def test_the_same_call_resumes_after_kill_9(
    relayed: Site, tmp_path: Path, state_home: Path, phase: str, at: int
) -> None:
    assert relayed.relay
    samples = upload_mixed(relayed, tmp_path)
    with aggregating_process(relayed, state_home, tmp_path / "log", phase, at) as process:
        wait_until(lambda: "reached" in process.log or not process.running)
    assert process.log == "reached\n"
    assert len(relayed.multiparts()) == 1
    before = len(relayed.relay.requests)
    done = relayed.client.aggregate(relayed.name, 1, LAST)
    repeated = sum(COPY in line for line in relayed.relay.requests[before:])
    assert repeated <= {"plan": 4, "copy": 2, "move": 0}[phase]
    assert done.bytes_copied <= repeated * 7 * MIB
    assert_merged(relayed, samples)
    assert relayed.multiparts() == []
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{len(samples) + 1:012d}.tar")
    assert relayed.aggregate_journal(1, LAST).read() is None


def test_ctrl_c_ends_at_once_with_advice_to_resume(relayed: Site, tmp_path: Path, state_home: Path) -> None:
    assert relayed.relay
    proxy, samples = relayed.relay, upload_mixed(relayed, tmp_path)
    proxy.always = Fault(stall_after=0, only=COPY)
    with aggregating_process(relayed, state_home, tmp_path / "log") as process:
        wait_until(lambda: any(COPY in request for request in proxy.requests))
        assert process.terminate(signal.SIGINT, seconds=5) == 130
    assert "was interrupted; run it again to resume" in process.log
    proxy.always = Fault()
    relayed.client.aggregate(relayed.name, 1, LAST)
    assert_merged(relayed, samples)
    assert relayed.client.list_dataranges(relayed.name)[0].object_key.endswith(f"{len(samples) + 1:012d}.tar")


def test_after_a_crash_that_follows_the_completion_nothing_is_done_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = upload_all(site, tmp_path, [10], [20, 30])
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        first = site.client.aggregate(site.name, 1, 3)
    second = site.client.aggregate(site.name, 1, 3)
    assert (second.size, second.bytes_copied, second.bytes_moved) == (first.size, 0, 0)
    assert_merged(site, samples)
    with pytest.raises(InvalidArgument, match="at least two are needed"):
        site.client.aggregate(site.name, 1, 3)


def test_dataranges_that_were_uploaded_again_are_aggregated_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Journal, "remove", lambda journal: None)
        upload_all(site, tmp_path, [10], [20, 30])
        site.client.aggregate(site.name, 1, 3)
    site.client.clear_datas3t(site.name)
    samples = upload_all(site, tmp_path, [100, 200], [300])
    site.client.aggregate(site.name, 1, 3)
    assert_merged(site, samples)


def test_after_a_crash_before_the_completion_no_part_is_made_again(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    samples = upload_mixed(relayed, tmp_path)

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
    assert_merged(relayed, samples)


def test_completion_is_retried_if_its_response_is_lost(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = upload_all(site, tmp_path, [10], [20, 30])
    complete, lost = OpenAggregate.complete, [True]

    def complete_and_lose_response(aggregate: OpenAggregate, etags: Sequence[str]) -> None:
        complete(aggregate, etags)
        if lost and lost.pop():
            raise Unavailable("the response was lost")

    monkeypatch.setattr(OpenAggregate, "complete", complete_and_lose_response)
    site.client.aggregate(site.name, 1, 3)
    assert_merged(site, samples)


def test_an_aggregate_that_the_server_has_ended_is_started_again(site: Site, tmp_path: Path, state_home: Path) -> None:
    samples = upload_mixed(site, tmp_path)
    with aggregating_process(site, state_home, tmp_path / "log", "copy", 6 * MIB) as process:
        wait_until(lambda: "reached" in process.log or not process.running)
    entry = site.aggregate_journal(1, LAST).read()
    assert entry
    site.client.connection.aggregate.CancelAggregate(v1.CancelAggregateRequest(aggregate_upload_id=entry.upload_id))
    site.client.aggregate(site.name, 1, LAST)
    assert_merged(site, samples)
    assert site.client.list_dataranges(site.name)[0].object_key.endswith(f"{len(samples) + 2:012d}.tar")


def test_the_error_while_s3_is_unavailable_advises_to_resume(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    samples = upload_mixed(relayed, tmp_path)
    relayed.relay.always = Fault(refuse=True, only=COPY)
    with pytest.raises(ConnectionError, match="run it again to resume"):
        relayed.client.aggregate(relayed.name, 1, LAST, max_retries=1)
    relayed.relay.always = Fault()
    relayed.client.aggregate(relayed.name, 1, LAST)
    assert_merged(relayed, samples)
