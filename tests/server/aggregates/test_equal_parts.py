"""Stores that join only parts of one size: noticed, remembered, and planned for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server import aggregates, optimize
from datas3t.server.errors import Failure
from tests.support.aggregates import aggregate, bounds, rows, send_planned, start, stored
from tests.support.store_proxy import StoreProxy, Ways, store_proxy
from tests.support.uploads import Site, archive, large_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.fixture
def proxy(services: "Services", site: Site) -> Iterator[StoreProxy]:
    """Return a proxy in front of S3 that refuses parts of different sizes."""
    with store_proxy(services.s3.endpoint, Ways(equal_parts_only=True)) as proxy:
        site.set_endpoint(proxy.url)
        yield proxy


def test_equal_parts_are_planned_once_the_store_has_refused_others(site: Site, proxy: StoreProxy) -> None:
    archives = [archive(1, b"small"), large_archive(2, 1, 30 << 20), large_archive(3, 1, 32 << 20)]
    for each in archives:
        site.upload(each)

    def moved() -> int:
        (proposal,) = optimize.plan(
            site.resources, site.datas3t, min_score=0, target_size=0, max_size=0, max_operations=1
        )
        return proposal.moved

    assert moved() < 6 << 20
    aggregate_id, etags = send_planned(site, 1, 3)
    for _ in range(2):
        with pytest.raises(Failure, match="start again") as caught:
            aggregates.complete(site.resources, aggregate_id, etags)
        assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_NEEDS_EQUAL_PARTS
    assert len(rows(site)) == 3

    assert moved() > 30 << 20  # of 62: the first part, the second and the last
    aggregate(site, 1, 3)
    assert bounds(site) == [(1, 3)]
    (row,) = rows(site)
    assert stored(site, row.data_object_key)[1024 : 1024 + 30 * 2**20] == archives[1].data[: 30 * 2**20]


def test_elsewhere_sources_are_copied_whole(site: Site) -> None:
    site.upload(large_archive(1))
    site.upload(large_archive(4))
    started = start(site, 1, 6, planned=True)
    signed = aggregates.sign_parts(site.resources, started.aggregate.id, range(1, started.part_count + 1))
    assert [part.copy is not None for part in signed.parts] == [True, True, False]
    assert started.aggregate.part_size == 0
