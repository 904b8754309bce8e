"""Tests that reads succeed while URLs expire, dataranges are aggregated, servers are killed and S3 fails.

DATAS3T_READ_SECONDS says how many seconds each of the long tests reads; 6 if it is not set.
"""

import contextlib
import functools
import itertools
import os
import random
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client, Datas3t, ObjectChanged
from datas3t.client._calls import connection
from datas3t.client._reading import fetching
from datas3t.client._reading.costs import Costs
from datas3t.transport import Engine
from tests.faults.aggregator import adjacent_runs
from tests.faults.readers import reading
from tests.faults.relayed import NAME, RelayedDatas3t, relayed_datas3t
from tests.support.faults import Fault
from tests.support.random_faults import KINDS, RandomFaults
from tests.support.serving import serving, settings_for
from tests.support.stack import BucketPool, new_database
from tests.support.tars import contents

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

SECONDS = float(os.environ.get("DATAS3T_READ_SECONDS", "6"))
URL_LIFETIME = 5.0
PAUSE = 0.02  # seconds after each read, for the tests whose faults come with time and not with the number of requests
SIGNED = b"X-Amz-Signature"  # only in requests that use presigned URLs, which are those of the client
PROBABILITIES = {"busy": 0.03, "throttled": 0.005, "cut": 0.03, "stalled": 0.004, "reset": 0.03, "other object": 0.005}
MANY = [(1 + 5 * number, contents(number, 5, 3_000)) for number in range(round(20 + 2 * SECONDS))]
MIXED = [
    (1, contents(1, 300, 6_000)),
    (301, [*contents(2, 40, 60_000), *contents(3, 3, 900_000), random.Random(4).randbytes(9 << 20)]),
    (1_000, contents(5, 200, 2_000)),
]

pytestmark = pytest.mark.timeout(120 + 3 * SECONDS)


@pytest.fixture
def relayed(tmp_path: Path, services: "Services", database: str, bucket: str) -> Iterator[RelayedDatas3t]:
    """Yield an empty datas3t, used by only this test, behind a relay."""
    with relayed_datas3t(tmp_path, services, database, bucket) as created:
        yield created


@pytest.fixture(scope="module")
def shared(
    services: "Services", migrated_template: str, buckets: BucketPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RelayedDatas3t, str]]:
    """Yield a filled datas3t for all tests of the module, and the URL of a server for it."""
    folder = tmp_path_factory.mktemp("shared")
    with (
        new_database(services, migrated_template) as db_url,
        buckets.lend() as bucket,
        relayed_datas3t(folder, services, db_url, bucket) as created,
        serving(settings_for(services, db_url, folder)) as server,
    ):
        created.fill(MIXED)
        yield created, server.url


@pytest.fixture
def filled(shared: tuple[RelayedDatas3t, str]) -> Iterator[RelayedDatas3t]:
    """Yield the filled datas3t, and remove the faults that the test has set."""
    datas3t, _ = shared
    yield datas3t
    datas3t.relay.always, datas3t.relay.rule = Fault(), None


@pytest.fixture
def handle(shared: tuple[RelayedDatas3t, str], filled: RelayedDatas3t) -> Iterator[Datas3t]:
    """Yield a new handle on the filled datas3t."""
    with Client(shared[1]) as client:
        yield client.datas3t(NAME)


@pytest.fixture
def short_stall_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a try fail after one second without a byte."""
    monkeypatch.setattr(connection, "Engine", functools.partial(Engine, stall_timeout=1))
    monkeypatch.setattr(fetching, "_STALL_TIMEOUT", 1.0)


def test_reads_succeed_while_urls_live_five_seconds(relayed: RelayedDatas3t) -> None:
    relayed.fill(MIXED)
    with relayed.serve(URL_LIFETIME) as (server, client):
        with reading(client.datas3t(NAME), relayed.contents, PAUSE):
            time.sleep(SECONDS)
        assert SECONDS / URL_LIFETIME <= calls(server.url, "PresignDataranges") < 10 * SECONDS / URL_LIFETIME


def test_reads_succeed_while_dataranges_are_aggregated_and_their_objects_deleted(
    relayed: RelayedDatas3t, s3: "S3Client"
) -> None:
    relayed.fill(MANY)
    before = objects(s3, relayed.bucket)
    with relayed.serve(3) as (_, client):
        with reading(client.datas3t(NAME), relayed.contents, PAUSE):
            done = aggregate_until(client, time.monotonic() + SECONDS)
        assert done > 3
        assert len(client.list_dataranges(NAME)) == len(MANY) - done
        assert before - objects(s3, relayed.bucket)


def test_reads_succeed_while_the_server_is_killed_and_started_again(relayed: RelayedDatas3t) -> None:
    relayed.fill(MIXED)
    generator, kills = random.Random(1), 0
    with relayed.serve(URL_LIFETIME) as (first, client), contextlib.ExitStack() as stack:
        running = first
        client.list_datas3ts()  # from now on it waits for the server, also for the first page of a handle
        with reading(client.datas3t(NAME), relayed.contents, PAUSE):
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                time.sleep(generator.uniform(0.5, 3))
                running.kill()
                kills += 1
                time.sleep(generator.uniform(0, 3))
                running = relayed.start(URL_LIFETIME, first.port)
                stack.callback(running.kill)
                running.wait_ready()
    assert kills > 0


@pytest.mark.usefixtures("short_stall_timeout")
def test_reads_succeed_while_s3_has_random_faults(relayed: RelayedDatas3t) -> None:
    relayed.fill(MIXED)
    relayed.relay.rule = faults = RandomFaults(1, PROBABILITIES, only=SIGNED)
    with relayed.serve(URL_LIFETIME) as (_, client), reading(client.datas3t(NAME), relayed.contents):
        time.sleep(SECONDS)
    assert set(faults.counts) == set(KINDS)


READS: dict[str, Callable[[Datas3t, list[int]], list[bytes]]] = {
    "get": lambda handle, keys: [handle.get(key) for key in keys],
    "get_many": lambda handle, keys: handle.get_many(keys),
    "scan": lambda handle, keys: [each.content for each in handle.scan(keys[0], keys[-1])],
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("keys", [[7, 8, 9], [341, 342, 343], [344]], ids=["small", "medium", "large"])
def test_a_response_about_another_object_is_requested_again_twice(
    filled: RelayedDatas3t, handle: Datas3t, read: str, keys: list[int]
) -> None:
    handle.get_many(range(1, 345))  # which reads the indices
    filled.relay.plan(*[Fault(other_object=True, only=SIGNED)] * 2)
    assert READS[read](handle, keys) == [filled.contents[key] for key in keys]
    assert filled.relay.planned == 0


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("key", [7, 341, 344])
def test_an_object_that_stays_replaced_is_an_error_and_its_bytes_are_not_returned(
    filled: RelayedDatas3t, handle: Datas3t, read: str, key: int
) -> None:
    handle.get(1)
    filled.relay.always = Fault(other_object=True, only=SIGNED)
    before = len(filled.relay.requests)
    with pytest.raises(ObjectChanged, match="has changed"):
        READS[read](handle, [key])
    assert len(filled.relay.requests) - before < 20
    filled.relay.always = Fault()
    assert READS[read](handle, [key]) == [filled.contents[key]]


def test_a_replaced_index_is_an_error_and_is_not_cached(filled: RelayedDatas3t, handle: Datas3t) -> None:
    assert handle.keys
    filled.relay.always = Fault(other_object=True, only=b".index?")
    with pytest.raises(ObjectChanged, match="has changed"):
        handle.get(1_000)
    filled.relay.always = Fault()
    assert handle.get(1_000) == filled.contents[1_000]


@pytest.mark.parametrize("read", READS)
def test_a_read_waits_as_long_as_a_429_asks_for(filled: RelayedDatas3t, handle: Datas3t, read: str) -> None:
    handle.get(1)
    filled.relay.plan(*[Fault(status=429, retry_after=1, only=SIGNED)] * 2)
    began = time.monotonic()
    assert READS[read](handle, [7]) == [filled.contents[7]]
    assert time.monotonic() - began >= 1
    assert filled.relay.planned == 0


def test_fewer_requests_run_at_a_time_after_s3_has_asked_for_fewer(
    filled: RelayedDatas3t, handle: Datas3t, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "gap", -1)  # one request for each datapoint
    between, limit, refused, keys = filled.relay, 4, 0, list(range(1, 101))
    expected = [filled.contents[key] for key in keys]

    def crowded(line: bytes) -> Fault:
        nonlocal refused
        if SIGNED not in line or between.waiting < limit:
            return between.always
        refused += 1
        return Fault(status=503)

    def read_all() -> int:
        """Read all keys, and return how many requests were refused."""
        nonlocal refused
        refused = between.most_waiting = 0
        assert handle.get_many(keys) == expected
        return refused

    between.always = Fault(delay=0.01, only=SIGNED)
    assert read_all() == 0
    before = between.most_waiting
    between.rule = crowded
    assert read_all() > 2 * [read_all() for _ in range(4)][-1]
    between.rule = None
    read_all()
    assert between.most_waiting <= before / 3
    after = between.most_waiting
    for _ in range(15):
        read_all()
    assert between.most_waiting > after  # it grows again


def calls(url: str, method: str) -> float:
    """Return how many calls of a method a server has handled."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        page = response.read().decode()
    return sum(float(n) for n in re.findall(rf'^datas3t_calls_total{{.*method=".*{method}".*}} (.+)$', page, re.M))


def objects(s3: "S3Client", bucket: str) -> set[str]:
    """Return the keys of all objects in a bucket."""
    return {each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())}


def aggregate_until(client: Client, deadline: float) -> int:
    """Aggregate two neighbours again and again, in equal intervals, until the deadline. Returns how often it did."""
    client.add_datas3t("idle", bucket=NAME)
    pause = (deadline - time.monotonic()) / len(MANY)
    generator, done = random.Random(1), 0
    for due in itertools.count(time.monotonic(), pause):
        if due >= deadline:
            return done
        time.sleep(max(0.0, due - time.monotonic()))
        run = adjacent_runs(client.list_dataranges(NAME))[0]
        if len(run) > 1:
            start = generator.randrange(len(run) - 1)
            client.aggregate(NAME, run[start].first, run[start + 1].last)
            done += 1
        client.clear_datas3t("idle")  # which wakes up the reaper
    raise AssertionError
