"""Many archives, and archives of many entries: requests, statements, messages and memory stay few and small."""

import time
from typing import TYPE_CHECKING

from datas3t.archive import index, names, write
from datas3t.server.db.pool import connection
from tests.support.faults import Relay, relay
from tests.support.importing import imported, leave, leave_many, rows
from tests.support.uploads import Archive, Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MIB = 1 << 20


def even(first: int, count: int, size: int) -> Archive:
    """An archive of contents that are all alike, made quickly."""
    tail = bytes(size) + write.padding(size)
    data = b"".join(write.header(names.entry_name(key, "bin"), size) + tail for key in range(first, first + count))
    step = 512 + len(tail)
    entries = (index.Entry(n * step, 1, size) for n in range(count))
    return Archive(first, count, data + write.END, index.encode(entries))


def asked_of(between: Relay) -> int:
    """Requests but for listings: folders that tests before this one have emptied are listed too, each by itself."""
    return sum(b"list-type=2" not in request for request in between.requests)


def statements(site: Site) -> int:
    """How many the database has seen, each a transaction of its own."""
    with connection(site.resources.pool) as conn:
        found = conn.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert found is not None
    return int(found[0])


def test_2000_archives_come_with_one_request_each_and_few_statements(site: Site, services: "Services") -> None:
    leave_many(site, [archive(3 * n, b"a", b"b", b"c") for n in range(2000)])
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        before, started = statements(site), time.monotonic()
        result = imported(site)
        assert time.monotonic() - started < 60
        asked = asked_of(between)
    assert statements(site) - before < 200
    assert (result.imported, result.skipped, result.seen) == (["images"], {}, 4000)
    assert len(rows(site)) == 2000
    assert asked < 2000 + 30


def test_a_large_archive_is_checked_by_a_few_requests(site: Site, services: "Services") -> None:
    leave(site, even(0, 3000, 8192), 1)
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        assert imported(site).imported == ["images"]
        assert asked_of(between) < 15
        assert between.bytes_to_client < MIB


def test_an_index_of_many_small_entries_is_made_by_a_few_wide_reads(site: Site, services: "Services") -> None:
    leave(site, even(0, 20_000, 600), 1, index=b"")  # 30 MB
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        assert imported(site).imported == ["images"]
        assert asked_of(between) < 15


def test_an_index_of_few_large_entries_is_made_without_their_contents(site: Site, services: "Services") -> None:
    leave(site, even(0, 6, 8 * MIB), 1, index=b"")
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        assert imported(site).imported == ["images"]
        assert asked_of(between) < 20
        assert between.bytes_to_client < MIB
