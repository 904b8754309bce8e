"""Reading goes on: with URLs that end, under aggregation, while servers die, and under an S3 that errs in every way.

DATAS3T_READ_SECONDS says how long each of the long ones reads.
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
from tests.faults.holdings import NAME, Library, library
from tests.faults.maintainer import runs
from tests.faults.readers import reading
from tests.support.faults import Fault
from tests.support.serving import serving, settings_for
from tests.support.stack import BucketPool, new_database
from tests.support.tars import contents
from tests.support.weather import KINDS, Weather

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

SECONDS = float(os.environ.get("DATAS3T_READ_SECONDS", "10"))
URL_LIFETIME = 5.0
SIGNED = b"X-Amz-Signature"  # in requests of readers, not in those of the server
CHANCES = {"busy": 0.03, "throttled": 0.005, "cut": 0.03, "stalled": 0.004, "reset": 0.03, "another": 0.005}
MANY = [(1 + 5 * number, contents(number, 5, 3_000)) for number in range(round(20 + 2 * SECONDS))]
MIXED = [
    (1, contents(1, 300, 6_000)),
    (301, [*contents(2, 40, 60_000), *contents(3, 3, 900_000), random.Random(4).randbytes(9 << 20)]),
    (1_000, contents(5, 200, 2_000)),
]

pytestmark = pytest.mark.timeout(120 + 3 * SECONDS)


@pytest.fixture
def shelves(tmp_path: Path, services: "Services", database: str, bucket: str) -> Iterator[Library]:
    with library(tmp_path, services, database, bucket) as made:
        yield made


@pytest.fixture(scope="module")
def lasting(
    services: "Services", migrated_template: str, buckets: BucketPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Library, str]]:
    """A filled library for many tests, and a server whose URLs live long."""
    folder = tmp_path_factory.mktemp("lasting")
    with (
        new_database(services, migrated_template) as db_url,
        buckets.lend() as bucket,
        library(folder, services, db_url, bucket) as made,
        serving(settings_for(services, db_url, folder)) as server,
    ):
        made.fill(MIXED)
        yield made, server.url


@pytest.fixture
def stocked(lasting: tuple[Library, str]) -> Iterator[Library]:
    """A filled library behind a relay that does nothing yet."""
    made, _ = lasting
    yield made
    made.relay.always, made.relay.rule = Fault(), None


@pytest.fixture
def handle(lasting: tuple[Library, str], stocked: Library) -> Iterator[Datas3t]:
    """A fresh handle on it."""
    with Client(lasting[1]) as client:
        yield client.datas3t(NAME)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second without a byte is a stall."""
    monkeypatch.setattr(connection, "Engine", functools.partial(Engine, stall_timeout=1))
    monkeypatch.setattr(fetching, "_STALL_TIMEOUT", 1.0)


def test_urls_that_live_five_seconds_are_renewed_unnoticed(shelves: Library) -> None:
    shelves.fill(MIXED)
    with shelves.serve(URL_LIFETIME) as (server, client):
        with reading(client.datas3t(NAME), shelves.contents):
            time.sleep(SECONDS)
        assert SECONDS / URL_LIFETIME <= calls(server.url, "PresignDataranges") < 10 * SECONDS / URL_LIFETIME


def test_an_aggregation_is_not_noticed_nor_that_the_sources_go(shelves: Library, s3: "S3Client") -> None:
    shelves.fill(MANY)
    before = objects(s3, shelves.bucket)
    with shelves.serve(3) as (_, client):
        with reading(client.datas3t(NAME), shelves.contents):
            done = merge(client, time.monotonic() + SECONDS)
        assert done > 3
        assert len(client.list_dataranges(NAME)) == len(MANY) - done
        assert before - objects(s3, shelves.bucket)


def test_a_server_may_die_and_come_back(shelves: Library) -> None:
    shelves.fill(MIXED)
    chance, kills = random.Random(1), 0
    with shelves.serve(URL_LIFETIME) as (first, client), contextlib.ExitStack() as stack:
        running = first
        with reading(client.datas3t(NAME), shelves.contents):
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                time.sleep(chance.uniform(0.5, 3))
                running.kill()
                kills += 1
                time.sleep(chance.uniform(0, 3))
                running = shelves.start(URL_LIFETIME, first.port)
                stack.callback(running.kill)
                running.wait_ready()
    assert kills > 0


@pytest.mark.usefixtures("impatient")
def test_an_s3_on_a_bad_day_costs_time_and_nothing_else(shelves: Library) -> None:
    shelves.fill(MIXED)
    shelves.relay.rule = weather = Weather(1, CHANCES, only=SIGNED)
    with shelves.serve(URL_LIFETIME) as (_, client), reading(client.datas3t(NAME), shelves.contents):
        time.sleep(SECONDS)
    assert set(weather.dealt) == set(KINDS)


READS: dict[str, Callable[[Datas3t, list[int]], list[bytes]]] = {
    "get": lambda handle, keys: [handle.get(key) for key in keys],
    "get_many": lambda handle, keys: handle.get_many(keys),
    "scan": lambda handle, keys: [each.content for each in handle.scan(keys[0], keys[-1])],
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("keys", [[7, 8, 9], [341, 342, 343], [344]], ids=["small", "middling", "large"])
def test_another_object_once_or_twice_is_a_slip(stocked: Library, handle: Datas3t, read: str, keys: list[int]) -> None:
    handle.get_many(range(1, 345))  # of which the indices are known then
    stocked.relay.plan(*[Fault(another=True, only=SIGNED)] * 2)
    assert READS[read](handle, keys) == [stocked.contents[key] for key in keys]
    assert stocked.relay.planned == 0


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("key", [7, 341, 344])
def test_another_object_that_stays_is_an_error_and_never_its_bytes(
    stocked: Library, handle: Datas3t, read: str, key: int
) -> None:
    handle.get(1)
    stocked.relay.always = Fault(another=True, only=SIGNED)
    asked = len(stocked.relay.requests)
    with pytest.raises(ObjectChanged, match="has changed"):
        READS[read](handle, [key])
    assert len(stocked.relay.requests) - asked < 20
    stocked.relay.always = Fault()
    assert READS[read](handle, [key]) == [stocked.contents[key]]


def test_another_index_is_an_error_and_not_kept(stocked: Library, handle: Datas3t) -> None:
    assert handle.keys
    stocked.relay.always = Fault(another=True, only=b".index?")
    with pytest.raises(ObjectChanged, match="has changed"):
        handle.get(1_000)
    stocked.relay.always = Fault()
    assert handle.get(1_000) == stocked.contents[1_000]


@pytest.mark.parametrize("read", READS)
def test_a_429_is_waited_out(stocked: Library, handle: Datas3t, read: str) -> None:
    handle.get(1)
    stocked.relay.plan(*[Fault(status=429, retry_after=1, only=SIGNED)] * 2)
    began = time.monotonic()
    assert READS[read](handle, [7]) == [stocked.contents[7]]
    assert time.monotonic() - began >= 1
    assert stocked.relay.planned == 0


def test_an_s3_that_asks_for_less_gets_less(stocked: Library, handle: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "gap", -1)  # a request for each
    between, room, refused, keys = stocked.relay, 4, 0, list(range(1, 101))
    expected = [stocked.contents[key] for key in keys]

    def crowded(line: bytes) -> Fault:
        nonlocal refused
        if SIGNED not in line or between.waiting < room:
            return between.always
        refused += 1
        return Fault(status=503)

    def refusals() -> int:
        nonlocal refused
        refused = between.most_waiting = 0
        assert handle.get_many(keys) == expected
        return refused

    between.always = Fault(delay=0.01, only=SIGNED)
    assert refusals() == 0
    usual = between.most_waiting
    between.rule = crowded
    assert refusals() > 2 * [refusals() for _ in range(4)][-1]
    between.rule = None
    refusals()
    assert between.most_waiting <= usual / 3
    lately = between.most_waiting
    for _ in range(15):
        refusals()
    assert between.most_waiting > lately  # and more again, after a while


def calls(url: str, method: str) -> float:
    """How many calls of a method a server has answered."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return sum(float(n) for n in re.findall(rf'^datas3t_calls_total{{.*method=".*{method}".*}} (.+)$', page, re.M))


def objects(s3: "S3Client", bucket: str) -> set[str]:
    return {each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())}


def merge(client: Client, deadline: float) -> int:
    """Makes two neighbours one, again and again until the deadline, evenly; how often. The reaper is kept awake."""
    client.add_datas3t("idle", bucket=NAME)
    pause = (deadline - time.monotonic()) / len(MANY)
    chance, done = random.Random(1), 0
    for due in itertools.count(time.monotonic(), pause):
        if due >= deadline:
            return done
        time.sleep(max(0.0, due - time.monotonic()))
        run = runs(client.list_dataranges(NAME))[0]
        if len(run) > 1:
            start = chance.randrange(len(run) - 1)
            client.aggregate(NAME, run[start].first, run[start + 1].last)
            done += 1
        client.clear_datas3t("idle")
    raise AssertionError
