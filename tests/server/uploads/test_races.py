"""Many at once: one wins, the others are told so, and nothing is left of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from datas3t import v1
from datas3t.server import dataranges, datas3ts, uploads
from datas3t.server.errors import Failure
from tests.support.uploads import Site, archive, large_archive

DONE = 0


def at_once(calls: Sequence[Callable[[], object]]) -> list[int]:
    """Runs all at the same moment; of each the reason it failed for, or DONE."""
    ready = Barrier(len(calls))

    def run(call: Callable[[], object]) -> int:
        ready.wait()
        try:
            call()
        except Failure as failure:
            return failure.reason
        return DONE

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def completion(site: Site, upload_id: int, etags: list[str]) -> Callable[[], None]:
    return lambda: uploads.complete(site.resources, upload_id, etags)


def keys(site: Site) -> list[tuple[int, int]]:
    rows, _ = dataranges.page(site.resources, site.datas3t, 0, "")
    return [(row.first_key, row.last_key) for row in rows]


def test_of_sixteen_overlapping_uploads_exactly_one_wins(site: Site) -> None:
    sent = [site.send(archive(100 - n, *[b"x"] * 17)) for n in range(16)]
    results = at_once([completion(site, *each) for each in sent])
    assert sorted(results) == [DONE] + [v1.ERROR_REASON_DATARANGE_OVERLAPS] * 15
    winner = 100 - results.index(DONE)
    assert keys(site) == [(winner, winner + 16)]
    assert site.sweep() == 30
    assert len(site.objects()) == 2


@pytest.mark.parametrize("make", [archive, large_archive], ids=["one PUT", "parts"])
def test_a_completion_eight_times_at_once_is_one_datarange(site: Site, make: Callable[..., object]) -> None:
    made = archive(1, b"content") if make is archive else large_archive(1)
    upload_id, etags = site.send(made)
    assert at_once([completion(site, upload_id, etags)] * 8) == [DONE] * 8
    assert len(keys(site)) == 1
    site.sweep()
    assert len(site.objects()) == 2


@pytest.mark.parametrize("attempt", range(4))
def test_an_upload_is_completed_or_cancelled_but_never_both(site: Site, attempt: int) -> None:
    upload_id, etags = site.send(archive(1, b"content"))
    completed, cancelled = at_once(
        [completion(site, upload_id, etags), lambda: uploads.cancel(site.resources, upload_id)]
    )
    site.sweep()
    if completed == DONE:
        assert cancelled == v1.ERROR_REASON_UPLOAD_COMPLETED
        assert (len(keys(site)), len(site.objects())) == (1, 2)
    else:
        assert (completed, cancelled) == (v1.ERROR_REASON_UPLOAD_CANCELLED, DONE)
        assert (keys(site), site.objects()) == ([], [])


@pytest.mark.parametrize("attempt", range(3))
def test_a_clear_under_completions_leaves_no_object_without_a_row(site: Site, attempt: int) -> None:
    sent = [site.send(archive(n * 10, b"content")) for n in range(6)]
    results = at_once([*(completion(site, *each) for each in sent), site.clear])
    assert set(results) <= {DONE, v1.ERROR_REASON_UPLOAD_CANCELLED}
    site.sweep()
    assert len(site.objects()) == 2 * len(keys(site))


def test_starts_at_once_draw_different_counters(site: Site) -> None:
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(lambda _: site.start(archive(1, b"content")), range(32)))
    assert len({each.upload.data_object_key for each in started}) == 32


def test_a_datas3t_added_eight_times_at_once_is_one(site: Site) -> None:
    calls = [lambda: datas3ts.add(site.resources, "new", "local")] * 8
    assert at_once(calls) == [DONE] * 8
    assert [row.datas3t_name for row in datas3ts.page(site.resources, 0, "")[0]] == ["images", "new"]
