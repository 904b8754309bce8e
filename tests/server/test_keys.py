"""Keys by the server: no key is in two reservations, and nothing lowers the next key."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import aggregates, dataranges, imports, keys, uploads
from datas3t.server.db import key_reservations
from datas3t.server.db.key_reservations import Reservation
from datas3t.server.db.pool import connection, transaction
from datas3t.server.errors import Failure
from tests.support.stack import wait_until
from tests.support.uploads import Archive, Site, add_bucket, archive, open_resources, put, put_data, run_concurrently

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from tests.support.stack import DatabasePool


def reserve(site: Site, count: int, request_id: str) -> Reservation:
    return keys.reserve(site.resources, site.datas3t, count, request_id)


def first_key(site: Site, count: int, request_id: str) -> int:
    return reserve(site, count, request_id).first_key


def start(site: Site, given: Archive, reservation_id: int) -> uploads.Started:
    return uploads.start(
        site.resources, site.datas3t, given.first, given.count, len(given.data), reservation_id=reservation_id
    )


def upload(site: Site, given: Archive, reservation_id: int) -> None:
    started = start(site, given, reservation_id)
    put(started.index_put_url, given.index)
    uploads.complete(site.resources, started.upload.id, put_data(started, given.data))


def execute(site: Site, statement: str, *values: object) -> list[tuple[object, ...]]:
    with connection(site.resources.pool) as conn:
        cursor = conn.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def failure(call: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def test_the_first_key_is_1_and_a_request_has_the_same_keys_again(site: Site) -> None:
    reserved = reserve(site, 10, "a")
    assert (reserved.first_key, reserved.last_key) == (1, 10)
    assert first_key(site, 5, "b") == 11
    assert reserve(site, 10, "a") == reserved
    refused = failure(lambda: reserve(site, 11, "a"))
    assert (refused.reason, refused.metadata["count"]) == (v1.ERROR_REASON_REQUEST_ID_USED, "10")


@pytest.mark.parametrize(("count", "request_id"), [(0, "a"), (1, ""), (1, "x" * 256), (1, "a\0"), (1 << 63, "a")])
def test_values_that_are_not_allowed_reserve_nothing(site: Site, count: int, request_id: str) -> None:
    assert failure(lambda: reserve(site, count, request_id)).reason == v1.ERROR_REASON_INVALID_VALUE
    assert first_key(site, 1, "next") == 1


def test_keys_that_an_upload_started_with_are_not_reserved(site: Site) -> None:
    site.start(archive(0, b"zero"))
    assert first_key(site, 1, "a") == 1
    site.start(archive(100, b"a", b"b"))
    assert first_key(site, 1, "b") == 102


def test_the_last_keys_can_be_reserved_and_then_none_are_left(site: Site) -> None:
    site.start(archive(MAX_KEY - 2, b"x"))
    refused = failure(lambda: reserve(site, 3, "a"))
    assert (refused.reason, refused.metadata["keys_left"]) == (v1.ERROR_REASON_KEYS_EXHAUSTED, "2")
    assert reserve(site, 2, "a").last_key == MAX_KEY
    assert failure(lambda: reserve(site, 1, "b")).reason == v1.ERROR_REASON_KEYS_EXHAUSTED
    assert first_key(site, 2, "a") == MAX_KEY - 1


def test_64_writers_reserve_at_once_without_two_having_one_key(site: Site) -> None:
    resources = site.resources

    def write(writer: int) -> list[tuple[int, int]]:
        found = []
        for number in range(4):
            request = f"{writer}-{number}"
            again = [keys.reserve(resources, "images", 1 + writer % 7, request) for _ in range(2)]
            assert again[0] == again[1]
            found.append((again[0].first_key, again[0].last_key))
        return found

    with ThreadPoolExecutor(64) as threads:
        spans = sorted(span for found in threads.map(write, range(64)) for span in found)
    assert len(spans) == 256
    assert all(last < following for (_, last), (following, _) in pairwise(spans))


def test_one_request_that_is_sent_by_many_at_once_reserves_once(site: Site) -> None:
    found = set()

    def call() -> None:
        found.add(first_key(site, 3, "same"))

    assert run_concurrently([call] * 12) == [0] * 12
    assert len(found) == 1
    assert execute(site, "SELECT count(*) FROM key_reservations") == [(1,)]


def test_reserved_keys_need_their_reservation(site: Site) -> None:
    reserved = reserve(site, 3, "a")
    other = reserve(site, 3, "b")
    given = archive(1, b"one", b"two", b"three")
    for wrong in (0, other.id):
        refused = failure(partial(start, site, given, wrong))
        assert refused.reason == v1.ERROR_REASON_KEYS_RESERVED
        assert refused.message.endswith("the next free key is 7")
        assert (refused.metadata["reserved_first"], refused.metadata["reserved_last"]) == ("1", "3")
    upload(site, given, reserved.id)
    assert [row.first_key for row in dataranges.page(site.resources, "images", 0, "")[0]] == [1]


def test_a_reservation_has_no_other_keys_than_its_own(site: Site) -> None:
    reserved = reserve(site, 3, "a")
    given = archive(2, b"two", b"three", b"four")
    refused = failure(lambda: start(site, given, reserved.id))
    assert refused.reason == v1.ERROR_REASON_KEYS_NOT_RESERVED
    assert "has the keys 1 to 3, not 2 to 4" in refused.message


def test_a_reservation_of_another_datas3t_is_as_one_that_never_was(site: Site) -> None:
    from datas3t.server import datas3ts

    datas3ts.add(site.resources, "other", "local")
    foreign = keys.reserve(site.resources, "other", 10, "a")
    for wrong in (foreign.id, 1 << 62, (1 << 64) - 1):
        assert failure(partial(start, site, archive(1, b"x"), wrong)).reason == v1.ERROR_REASON_RESERVATION_NOT_FOUND


def test_an_upload_that_waits_for_the_datas3t_notices_a_reservation_that_was_made_meanwhile(site: Site) -> None:
    with ThreadPoolExecutor(1) as thread:
        with transaction(site.resources.pool) as conn:
            reserved = key_reservations.reserve(conn, "images", 10, "a", keys.LIFETIME)
            assert reserved is not None
            upload = thread.submit(site.start, archive(5, b"five"))
            wait_until(lambda: _is_waiting(site))
        assert failure(upload.result).reason == v1.ERROR_REASON_KEYS_RESERVED


def _is_waiting(site: Site) -> bool:
    found = execute(site, "SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(found[0][0])


def test_uploads_below_what_is_reserved_need_no_reservation(site: Site) -> None:
    site.upload(archive(100, b"x"))
    reserve(site, 5, "a")
    site.upload(archive(7, b"seven"))
    site.start(archive(106, b"y"))
    assert failure(lambda: site.start(archive(105, b"x"))).reason == v1.ERROR_REASON_KEYS_RESERVED


def test_a_reservation_ends_when_all_of_its_keys_are_datapoints(site: Site) -> None:
    reserved = reserve(site, 4, "a")
    upload(site, archive(1, b"one"), reserved.id)
    upload(site, archive(2, b"two", b"three"), reserved.id)
    site.sweep()
    assert reserve(site, 4, "a") == reserved
    dataranges.delete(site.resources, "images", 2, 3)
    upload(site, archive(4, b"four"), reserved.id)
    site.sweep()
    assert execute(site, "SELECT keys_left FROM key_reservations") == [(2,)]
    upload(site, archive(2, b"two"), reserved.id)
    upload(site, archive(3, b"three"), reserved.id)
    assert failure(lambda: start(site, archive(5, b"x"), reserved.id)).reason == v1.ERROR_REASON_RESERVATION_NOT_FOUND
    site.sweep()
    assert execute(site, "SELECT count(*) FROM key_reservations") == [(0,)]


def test_a_reservation_expires(site: Site) -> None:
    reserved = reserve(site, 4, "a")
    assert execute(site, "SELECT expires_at - now() > interval '29 days 23 hours' FROM key_reservations") == [(True,)]
    pending = start(site, archive(1, b"one"), reserved.id)
    execute(site, "UPDATE key_reservations SET expires_at = now()")
    assert failure(lambda: start(site, archive(2, b"x"), reserved.id)).reason == v1.ERROR_REASON_RESERVATION_NOT_FOUND
    site.sweep()
    site.start(archive(2, b"two"))  # the keys are as any others now
    given = archive(1, b"one")
    put(pending.index_put_url, given.index)
    uploads.complete(site.resources, pending.upload.id, put_data(pending, given.data))
    assert first_key(site, 1, "b") == 5


def test_clearing_keeps_reservations_and_deleting_ends_them_but_the_next_key_goes_on(site: Site) -> None:
    reserved = reserve(site, 4, "a")
    upload(site, archive(1, b"one", b"two"), reserved.id)
    site.clear()
    assert execute(site, "SELECT keys_left FROM key_reservations") == [(4,)]
    upload(site, archive(1, b"one", b"two"), reserved.id)
    site.clear()
    site.delete()
    assert execute(site, "SELECT count(*) FROM key_reservations") == [(0,)]
    assert failure(lambda: reserve(site, 1, "b")).reason == v1.ERROR_REASON_DATAS3T_NOT_FOUND
    site.add()
    assert first_key(site, 4, "a") == 5


def test_the_advice_of_an_overlap_is_above_what_is_reserved(site: Site) -> None:
    site.upload(archive(1, b"one"))
    assert failure(lambda: site.start(archive(1, b"x"))).metadata["next_key"] == "2"
    reserve(site, 10, "a")
    assert failure(lambda: site.start(archive(1, b"x"))).metadata["next_key"] == "12"


def test_datapoints_within_a_reservation_can_be_aggregated_but_not_its_unused_keys(site: Site) -> None:
    reserved = reserve(site, 4, "a")
    upload(site, archive(1, b"one"), reserved.id)
    upload(site, archive(2, b"two"), reserved.id)
    refused = failure(lambda: aggregates.start(site.resources, "images", 1, 4))
    assert refused.reason == v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT
    assert aggregates.start(site.resources, "images", 1, 2).aggregate.last_key == 2


def test_another_database_continues_above_what_it_finds(
    site: Site, services: "Services", databases: "DatabasePool", tmp_path: Path
) -> None:
    reserve(site, 10, "lost")  # reservations are not in the bucket
    site.upload(archive(20, b"x", b"y"))
    with databases.lend() as url, open_resources(url, services.encryption_key, tmp_path) as resources:
        add_bucket(resources, services.s3, site.bucket)
        elsewhere = Site(resources, "images", site.bucket, site.s3)
        list(imports.run(resources, "local"))
        assert first_key(elsewhere, 5, "a") == 22
        site.upload(archive(30, b"z"))
        list(imports.run(resources, "local"))
        assert first_key(elsewhere, 1, "b") == 31
    with databases.lend() as url, open_resources(url, services.encryption_key, tmp_path) as resources:
        add_bucket(resources, services.s3, site.bucket)
        elsewhere = Site(resources, "images", site.bucket, site.s3)
        elsewhere.add()
        assert first_key(elsewhere, 1, "a") == 31
