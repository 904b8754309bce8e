"""Scans: archives of every kind are read in key order and ahead within a limit, and a scan can stop at any time."""

import io
import random
import subprocess
import sys
import tarfile
import threading
from itertools import islice
from pathlib import Path

import pytest

from datas3t.archive import names
from datas3t.client import Datapoint
from datas3t.client._reading import fetching, headers, scanning
from tests.client.archives import MIB, sample, tar
from tests.client.reading.archive_host import ArchiveHost, set_max_request
from tests.client.sites import Site
from tests.support.httpd import Fault, Seen
from tests.support.memory import memory_growth
from tests.support.stack import wait_until
from tests.support.tars import DIALECTS, archive, entry, pax, write_archive


def seeded(first: int, *sizes: int) -> dict[int, bytes]:
    """Return random contents of these sizes, by ascending keys from `first` on."""
    return dict(enumerate(map(random.Random(first).randbytes, sizes), first))


def datapoints(contents: dict[int, bytes], extension: str = "bin") -> list[Datapoint]:
    """Return the datapoints that a scan of these contents should yield."""
    return [Datapoint(key, names.entry_name(key, extension), content) for key, content in contents.items()]


@pytest.mark.parametrize(
    ("dialect", "extension"),
    [
        *((dialect, extension) for dialect in DIALECTS for extension in ("bin", "json.zst")),
        ("gnu", "j" * 150),
        ("pax", "j" * 150),
    ],
)
def test_archives_of_every_dialect_are_scanned(host: ArchiveHost, dialect: str, extension: str) -> None:
    contents = seeded(7, 0, 1, 511, 512, 513, 5000, *range(200))
    handle = host.handle(archive(7, contents.values(), extension=extension, dialect=dialect))
    assert list(handle.scan()) == datapoints(contents, extension)
    assert list(handle.scan(10, 20)) == datapoints(contents, extension)[3:14]


@pytest.mark.parametrize("max_request", [8 << 20, 4000])
def test_contents_can_be_views_until_the_next_datapoint(
    host: ArchiveHost, max_request: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_max_request(monkeypatch, max_request)
    monkeypatch.setattr(scanning, "_REQUEST_SIZE", 3000)
    contents = seeded(7, 0, 1, 511, 512, 513, 5000, *range(200))
    handle = host.handle(archive(7, contents.values()))
    expected = datapoints(contents)
    scan = handle.scan(8, 300, copy=False)
    for found, (key, name, content) in zip(scan, expected[1:], strict=True):
        assert (found.key, found.name) == (key, name)
        assert isinstance(found.content, memoryview)
        assert found.content.readonly
        assert found.content == content
    assert [each.content for each in handle.scan(copy=True)] == [each.content for each in expected]


def test_extensions_and_kinds_of_headers_can_be_mixed(host: ArchiveHost) -> None:
    extensions, expected, out = ["a", "b.c", "long" * 40, "\u00fc"], [], io.BytesIO()
    for key in range(300):
        datapoint = Datapoint(key, names.entry_name(key, extensions[key % 4]), b"%d" % key * (key % 7))
        member = tarfile.TarInfo(datapoint.name)
        member.size, member.mtime = len(datapoint.content), 1_700_000_000.5 if key % 5 else 1_700_000_000
        out.write(
            member.tobuf((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[key % 2])
            + datapoint.content
            + bytes(-member.size % 512)
        )
        expected.append(datapoint)
    handle = host.handle(out.getvalue() + bytes(1024))
    assert list(handle.scan()) == expected


def test_a_size_in_an_extended_header_takes_precedence(host: ArchiveHost) -> None:
    name = names.entry_name(0, "bin").encode()
    odd = pax({b"size": b"5"}) + entry(name, b"", size_field=b"%011o\0" % 0) + b"12345".ljust(512, b"\0")
    handle = host.handle(odd + entry(names.entry_name(1, "bin").encode(), b"678") + bytes(1024))
    assert [each.content for each in handle.scan()] == [b"12345", b"678"]


@pytest.mark.parametrize("max_request", [4000, 20_000])
def test_large_datapoints_among_small_ones_are_yielded_in_order(
    host: ArchiveHost, max_request: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_max_request(monkeypatch, max_request)
    monkeypatch.setattr(scanning, "_REQUEST_SIZE", 3000)
    contents = seeded(0, 10, 50_000, 10, 10, max_request - 512, max_request - 511, 30_000, 0, 3000, 5000) | seeded(
        50, 9000
    )
    handle = host.handle(*(tar({key: contents[key] for key in keys}) for keys in (range(10), [50])))
    assert list(handle.scan()) == datapoints(contents)
    assert list(handle.scan(1, 6)) == datapoints(contents)[1:7]


def test_sizes_of_requests_and_buffers_do_not_change_the_result(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = seeded(0, *[700] * 100)
    handle = host.handle(tar(contents))
    for records, request, ahead in ((1, 1, 1), (7, 5000, 1), (1000, 5000, 20_000), (30, 1, 1 << 20)):
        monkeypatch.setattr(headers, "_RECORDS_AT_ONCE", records)
        monkeypatch.setattr(scanning, "_REQUEST_SIZE", request)
        monkeypatch.setattr(scanning, "_READ_AHEAD", ahead)
        assert list(handle.scan()) == datapoints(contents)


def test_a_scan_continues_after_broken_connections(host: ArchiveHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_REQUEST_SIZE", 20_000)
    contents = seeded(0, *[700] * 500)
    handle = host.handle(tar(contents))
    handle.get(0)
    host.server.plan(Fault(cut_after=5000), Fault(reset=True), Fault(), Fault(status=503), Fault(cut_after=0))
    assert list(handle.scan()) == datapoints(contents)


def test_no_more_than_the_limit_is_read_ahead(host: ArchiveHost, monkeypatch: pytest.MonkeyPatch) -> None:
    request, limit = 50_000, 200_000
    monkeypatch.setattr(scanning, "_REQUEST_SIZE", request)
    monkeypatch.setattr(scanning, "_READ_AHEAD", limit)
    monkeypatch.setattr(fetching, "_RECEIVE_INTERVAL", 0.0)  # receive between any two datapoints
    handle = host.handle(tar(seeded(0, *[9728] * 200)))
    handle.get(0)
    host.server.requests.clear()
    sent, furthest = host.server.body_bytes_sent, 0
    for taken, _ in enumerate(islice(handle.scan(), 100), 1):
        wait_until(lambda: host.server.body_bytes_sent - sent == requested(host), what="all requested bytes")
        furthest = max(furthest, requested(host) - taken * 10_240)
    assert limit - request <= furthest <= limit + request


def requested(host: ArchiveHost) -> int:
    """Return the size of all ranges that were requested."""
    ranges = (seen.headers["range"].removeprefix("bytes=").split("-") for seen in list(host.server.requests))
    return sum(int(last) - int(first) + 1 for first, last in ranges)


def threads() -> set[threading.Thread]:
    """Return all threads except those of the HTTP server."""
    return {thread for thread in threading.enumerate() if "process_request_thread" not in thread.name}


def test_closing_a_scan_closes_its_connections_and_leaves_no_thread(host: ArchiveHost) -> None:
    handle = host.handle(tar(seeded(0, *[MIB] * 40)))
    handle.get(0)
    host.server.drop_connections()
    before = threads()

    def rule(seen: Seen) -> Fault:
        return Fault() if seen.headers["range"].startswith("bytes=0-") else Fault(stall_after=1000)

    host.server.rule = rule
    scan = handle.scan()
    assert next(scan).key == 0
    wait_until(lambda: host.server.open_connections >= 4, what="read-ahead requests")
    scan.close()  # type: ignore[attr-defined]
    assert threads() == before
    wait_until(lambda: host.server.open_connections <= 1, what="one idle connection")
    host.client.close()
    wait_until(lambda: host.server.open_connections == 0, what="no connection")


def test_a_scan_can_be_abandoned_in_the_middle(host: ArchiveHost) -> None:
    contents = seeded(0, *[100_000] * 100)
    handle = host.handle(tar(contents))
    for stop in (0, 1, 50, 99):
        for datapoint in handle.scan():
            if datapoint.key == stop:
                break
        assert handle.get(99 - stop) == contents[99 - stop]
    assert list(handle.scan()) == datapoints(contents)


def test_interleaved_scans_are_independent(host: ArchiveHost) -> None:
    contents = seeded(0, *[100_000] * 100)
    handle = host.handle(tar(contents))
    pairs = list(zip(handle.scan(0, 94), handle.scan(5), strict=True))
    assert [one for one, _ in pairs] == datapoints(contents)[:95]
    assert [other for _, other in pairs] == datapoints(contents)[5:]


def test_a_handle_can_read_during_its_scan(host: ArchiveHost) -> None:
    contents = seeded(0, *[100_000] * 60)
    handle = host.handle(tar(contents))
    for datapoint in handle.scan():
        assert handle.get(59 - datapoint.key) == contents[59 - datapoint.key]
        assert handle.get_many([3, datapoint.key]) == [contents[3], datapoint.content]


_FORKED = """
import os, sys
from datas3t.client import Client
url, name = sys.argv[1:]
handle = Client(url).datas3t(name)
expected = list(handle.scan())
scan = handle.scan()
start = [next(scan) for _ in range(3)]
child = os.fork()
if not child:
    try:
        assert list(handle.scan()) == expected
        del scan
        assert handle.get(7) == expected[7].content
        assert list(handle.scan(5, 9)) == expected[5:10]
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
assert start + list(scan) == expected
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert list(handle.scan()) == expected
"""


def test_parent_and_child_scan_after_a_fork_in_the_middle_of_a_scan(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 0, *[300_000] * 100))
    command = [sys.executable, "-c", _FORKED, site.client.url, site.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


_HANDLE = """
from datas3t.client import Client
url, name = arguments
handle = Client(url).datas3t(name)
handle.get(0)
list(handle.scan(0, 0))
"""


def test_a_scan_takes_the_same_memory_however_long_it_is(site: Site, tmp_path: Path) -> None:
    write_archive(tmp_path / "1.tar", 1, 0, [MIB] * 120)
    site.client.upload_tar(site.name, tmp_path / "1.tar")
    scan = "assert sum(len(datapoint.content) for datapoint in handle.scan()) == 120 << 20"
    assert memory_growth(_HANDLE, scan, (site.client.url, site.name)) < 60


def test_a_large_datapoint_is_in_memory_once(site: Site, tmp_path: Path) -> None:
    write_archive(tmp_path / "1.tar", 1, 0, [10, 100 * MIB])
    site.client.upload_tar(site.name, tmp_path / "1.tar")
    for read in ("handle.get(1)", "handle.get_many([0, 1])[1]", "list(handle.scan(1))[0].content"):
        assert 100 <= memory_growth(_HANDLE, f"assert len({read}) == 100 << 20", (site.client.url, site.name)) < 160, (
            read
        )
