"""No transaction and no lock is held while an aggregate is computed: the database is asked while it happens."""

import pytest

from datas3t import v1
from datas3t.archive import join
from datas3t.server import aggregates, dataranges, optimize
from datas3t.server.aggregates import ranges
from datas3t.server.db import datas3ts, pool
from datas3t.server.errors import Failure
from tests.support.aggregates import bounds, merge, send_merged, send_planned, start, upload_some
from tests.support.transactions import watching
from tests.support.uploads import Site

COMPUTING = ("datas3t.archive.join", "datas3t.archive.tar", "datas3t.archive.index")
AGGREGATES = (*COMPUTING, "datas3t.server.aggregates", "datas3t.server.intents", "datas3t.server.objects.checks")


def test_the_database_knows_of_a_transaction_that_is_open_while_something_is_computed(
    site: Site, database: str
) -> None:
    with watching(database, "datas3t.archive.join") as watched, pool.transaction(site.resources.pool) as conn:
        datas3ts.locked(conn, site.datas3t)
        join.plan([512])
    assert "datas3t.archive.join.plan" in watched.functions
    assert watched.inside == watched.functions


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "merged"])
@pytest.mark.parametrize("equal_parts", [True, False], ids=["equal", "any"])
def test_an_aggregate_is_started_and_completed_without_a_transaction_while_it_is_computed(
    site: Site, database: str, planned: bool, equal_parts: bool
) -> None:
    sources = upload_some(site, 4)
    with pool.connection(site.resources.pool) as conn:
        conn.execute("UPDATE s3_buckets SET equal_parts = %s", [equal_parts])
    with watching(database, *AGGREGATES) as watched:
        if planned:
            sent = send_planned(site, 1, 12)
        else:
            sent = send_merged(start(site, 1, 12), merge([each.data for each in sources]))
        aggregates.complete(site.resources, *sent)
    assert watched.inside == set()
    assert {f"datas3t.server.aggregates.{each}" for each in ("ranges.find_sources", "lifecycle._swap")} < set(
        watched.functions
    )
    assert ("datas3t.archive.join.plan" in watched.functions) == (planned and not equal_parts)
    assert bounds(site) == [(1, 12)]


def test_a_range_that_is_refused_is_refused_without_a_transaction(site: Site, database: str) -> None:
    upload_some(site, 3)
    with watching(database, *AGGREGATES) as watched, pytest.raises(Failure, match="nearest range"):
        start(site, 1, 8)
    assert watched.inside == set()
    assert "datas3t.server.aggregates.ranges.nearest" in watched.functions


def test_aggregates_are_proposed_without_a_transaction(site: Site, database: str) -> None:
    upload_some(site, 8)
    with watching(database, "datas3t.server.optimize", *COMPUTING) as watched:
        assert optimize.plan(site.resources, site.datas3t, min_score=None, target_size=0, max_size=0, max_operations=0)
    assert watched.inside == set()
    assert "datas3t.server.optimize.proposals.plan" in watched.functions


def test_a_source_that_is_deleted_while_the_aggregate_is_planned_is_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_some(site, 4)
    find = ranges.find_sources
    deletions = iter([(10, 12)])

    def find_and_delete(*arguments: object, **options: object) -> object:
        found = find(*arguments, **options)  # type: ignore[arg-type]
        for first, last in deletions:
            dataranges.delete(site.resources, site.datas3t, first, last)
        return found

    monkeypatch.setattr(ranges, "find_sources", find_and_delete)
    with pytest.raises(Failure) as caught:
        start(site, 1, 12)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT
    assert caught.value.metadata["nearest_last"] == "9"
    assert start(site, 1, 9).aggregate.last_key == 9


def test_an_aggregate_whose_sources_never_stay_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_some(site, 2)
    find = ranges.find_sources

    def find_stale(*arguments: object, **options: object) -> object:
        rows = find(*arguments, **options)  # type: ignore[arg-type]
        with pool.connection(site.resources.pool) as conn:
            conn.execute("UPDATE dataranges SET id = DEFAULT")
        return rows

    monkeypatch.setattr(ranges, "find_sources", find_stale)
    with pytest.raises(Failure, match="start again") as caught:
        start(site, 1, 6)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED
    assert site.multiparts() == []
    with pool.connection(site.resources.pool) as conn:
        assert conn.execute("SELECT count(*) FROM aggregate_uploads").fetchone() == (0,)
