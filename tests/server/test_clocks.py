"""The clocks of servers and database may differ: what rows say about time is made by the database alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datas3t.server import resources, uploads
from datas3t.server.db.pool import connection
from tests.support.aggregates import aggregate
from tests.support.uploads import Site, archive


@pytest.fixture(params=[-400, 400], ids=["slow clock", "fast clock"])
def skewed(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A server whose clock differs from the database's by 400 days."""
    skew = timedelta(days=request.param)

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Skewed":
            return cls.fromtimestamp((datetime.now(tz) + skew).timestamp(), tz)

    monkeypatch.setattr(resources, "datetime", Skewed)
    assert abs(site.resources.expiry() - datetime.now(UTC)) > timedelta(days=300)
    return site


def hours_left(site: Site, statement: str) -> set[int]:
    with connection(site.resources.pool) as conn:
        return {round(hours) for (hours,) in conn.execute(statement.encode())}


def test_an_upload_expires_by_the_clock_of_the_database(skewed: Site) -> None:
    started = skewed.start(archive(1, b"content"))
    left = "SELECT extract(epoch FROM expires_at - now()) / 3600 FROM datarange_uploads"
    assert hours_left(skewed, left) == {24}
    uploads.sign_parts(skewed.resources, started.upload.id, [])
    assert hours_left(skewed, left) == {24}
    assert skewed.sweep() == 0
    uploads.cancel(skewed.resources, started.upload.id)


def test_what_an_aggregate_replaced_stays_by_the_clock_of_the_database(skewed: Site) -> None:
    skewed.upload(archive(1, b"one"))
    skewed.upload(archive(2, b"two"))
    aggregate(skewed, 1, 2)
    assert hours_left(skewed, "SELECT extract(epoch FROM expires_at - now()) / 3600 FROM aggregate_uploads") == {24}
    assert hours_left(skewed, "SELECT extract(epoch FROM due_at - now()) / 3600 FROM keys_to_delete") == {25}
    assert skewed.sweep() == 0
