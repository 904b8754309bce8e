"""Scans: archives of every kind in key order, read ahead within bounds, left at any moment."""

import io
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from datas3t.archive import names
from datas3t.client import Datapoint
from datas3t.client._reading import fetching, scanning
from tests.client.archives import MIB, sample, tar
from tests.client.reading.served import Shelf, set_largest, shelf
from tests.client.sites import Site
from tests.support.httpd import Fault, Seen
from tests.support.memory import grown
from tests.support.stack import wait_until
from tests.support.tars import DIALECTS, archive, entry, pax, write_archive


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path / "cache") as made:
        yield made


def seeded(first: int, *sizes: int) -> dict[int, bytes]:
    return dict(enumerate(map(random.Random(first).randbytes, sizes), first))


def named(contents: dict[int, bytes], extension: str = "bin") -> list[Datapoint]:
    return [Datapoint(key, names.entry_name(key, extension), content) for key, content in contents.items()]


@pytest.mark.parametrize(
    ("dialect", "extension"),
    [
        *((dialect, extension) for dialect in DIALECTS for extension in ("bin", "json.zst")),
        ("gnu", "j" * 150),
        ("pax", "j" * 150),
    ],
)
def test_archives_of_every_dialect_are_scanned(own: Shelf, dialect: str, extension: str) -> None:
    contents = seeded(7, 0, 1, 511, 512, 513, 5000, *range(200))
    handle = own.handle(archive(7, contents.values(), extension=extension, dialect=dialect))
    assert list(handle.scan()) == named(contents, extension)
    assert list(handle.scan(10, 20)) == named(contents, extension)[3:14]


def test_every_extension_and_kind_of_header_may_be_mixed(own: Shelf) -> None:
    extensions, expected, out = ["a", "b.c", "long" * 40, "\u00fc"], [], io.BytesIO()
    for key in range(300):
        made = Datapoint(key, names.entry_name(key, extensions[key % 4]), b"%d" % key * (key % 7))
        member = tarfile.TarInfo(made.name)
        member.size, member.mtime = len(made.content), 1_700_000_000.5 if key % 5 else 1_700_000_000
        out.write(
            member.tobuf((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[key % 2]) + made.content + bytes(-member.size % 512)
        )
        expected.append(made)
    handle = own.handle(out.getvalue() + bytes(1024))
    assert list(handle.scan()) == expected


def test_a_size_in_an_extended_header_is_that_of_the_content(own: Shelf) -> None:
    name = names.entry_name(0, "bin").encode()
    odd = pax({b"size": b"5"}) + entry(name, b"", size_field=b"%011o\0" % 0) + b"12345".ljust(512, b"\0")
    handle = own.handle(odd + entry(names.entry_name(1, "bin").encode(), b"678") + bytes(1024))
    assert [each.content for each in handle.scan()] == [b"12345", b"678"]


@pytest.mark.parametrize("largest", [4000, 20_000])
def test_large_datapoints_among_small_ones_come_in_order(
    own: Shelf, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_largest(monkeypatch, largest)
    monkeypatch.setattr(scanning, "_REQUEST", 3000)
    contents = seeded(0, 10, 50_000, 10, 10, largest - 512, largest - 511, 30_000, 0, 3000, 5000) | seeded(50, 9000)
    handle = own.handle(*(tar({key: contents[key] for key in keys}) for keys in (range(10), [50])))
    assert list(handle.scan()) == named(contents)
    assert list(handle.scan(1, 6)) == named(contents)[1:7]


def test_any_block_of_records_and_any_request_give_the_same(own: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = seeded(0, *[700] * 100)
    handle = own.handle(tar(contents))
    for block, request, ahead in ((1, 1, 1), (7, 5000, 1), (1000, 5000, 20_000), (30, 1, 1 << 20)):
        monkeypatch.setattr(scanning, "_BLOCK", block)
        monkeypatch.setattr(scanning, "_REQUEST", request)
        monkeypatch.setattr(scanning, "_AHEAD", ahead)
        assert list(handle.scan()) == named(contents)


def test_a_scan_goes_on_where_the_line_breaks(own: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_REQUEST", 20_000)
    contents = seeded(0, *[700] * 500)
    handle = own.handle(tar(contents))
    handle.get(0)
    own.server.plan(Fault(cut_after=5000), Fault(reset=True), Fault(), Fault(status=503), Fault(cut_after=0))
    assert list(handle.scan()) == named(contents)


def test_no_more_than_the_bound_is_read_ahead(own: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    request, bound = 50_000, 200_000
    monkeypatch.setattr(scanning, "_REQUEST", request)
    monkeypatch.setattr(scanning, "_AHEAD", bound)
    monkeypatch.setattr(fetching, "_PUMP", 0.0)  # the connections are looked after between any two datapoints
    handle = own.handle(tar(seeded(0, *[9728] * 200)))
    handle.get(0)
    own.server.requests.clear()
    sent, furthest = own.server.body_bytes_sent, 0
    for taken, _ in enumerate(islice(handle.scan(), 100), 1):
        wait_until(lambda: own.server.body_bytes_sent - sent == asked_for(own), what="all that was asked for")
        furthest = max(furthest, asked_for(own) - taken * 10_240)
    assert bound - request <= furthest <= bound + request


def asked_for(own: Shelf) -> int:
    """The bytes of all ranges that were asked for."""
    ranges = (seen.headers["range"].removeprefix("bytes=").split("-") for seen in list(own.server.requests))
    return sum(int(last) - int(first) + 1 for first, last in ranges)


def threads() -> set[threading.Thread]:
    """Those that are not the HTTP server's own."""
    return {thread for thread in threading.enumerate() if "process_request_thread" not in thread.name}


def test_a_scan_that_is_abandoned_closes_its_connections_and_leaves_no_thread(own: Shelf) -> None:
    handle = own.handle(tar(seeded(0, *[MIB] * 40)))
    handle.get(0)
    own.server.drop_connections()
    before = threads()

    def rule(seen: Seen) -> Fault:
        return Fault() if seen.headers["range"].startswith("bytes=0-") else Fault(stall_after=1000)

    own.server.rule = rule
    scan = handle.scan()
    assert next(scan).key == 0
    wait_until(lambda: own.server.open_connections >= 4, what="requests ahead")
    scan.close()  # type: ignore[attr-defined]
    assert threads() == before
    wait_until(lambda: own.server.open_connections <= 1, what="the end of all but the idle connection")
    own.client.close()
    wait_until(lambda: own.server.open_connections == 0, what="the end of the idle connection")


def test_a_scan_may_be_left_in_the_middle(own: Shelf) -> None:
    contents = seeded(0, *[100_000] * 100)
    handle = own.handle(tar(contents))
    for stop in (0, 1, 50, 99):
        for datapoint in handle.scan():
            if datapoint.key == stop:
                break
        assert handle.get(99 - stop) == contents[99 - stop]
    assert list(handle.scan()) == named(contents)


def test_scans_side_by_side_do_not_disturb_each_other(own: Shelf) -> None:
    contents = seeded(0, *[100_000] * 100)
    handle = own.handle(tar(contents))
    pairs = list(zip(handle.scan(0, 94), handle.scan(5), strict=True))
    assert [one for one, _ in pairs] == named(contents)[:95]
    assert [other for _, other in pairs] == named(contents)[5:]


def test_reads_within_a_scan_do_not_disturb_it(own: Shelf) -> None:
    contents = seeded(0, *[100_000] * 60)
    handle = own.handle(tar(contents))
    for datapoint in handle.scan():
        assert handle.get(59 - datapoint.key) == contents[59 - datapoint.key]
        assert handle.get_many([3, datapoint.key]) == [contents[3], datapoint.content]


_FORKED = """
import os, sys
from datas3t.client import Client
url, name = sys.argv[1:]
handle = Client(url).datas3t(name)
expected = list(handle.scan())
begun = handle.scan()
taken = [next(begun) for _ in range(3)]
child = os.fork()
if not child:
    try:
        assert list(handle.scan()) == expected
        del begun
        assert handle.get(7) == expected[7].content
        assert list(handle.scan(5, 9)) == expected[5:10]
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
assert taken + list(begun) == expected
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
url, name = told
handle = Client(url).datas3t(name)
handle.get(0)
list(handle.scan(0, 0))
"""


def test_a_scan_takes_the_same_memory_however_long_it_is(site: Site, tmp_path: Path) -> None:
    write_archive(tmp_path / "1.tar", 1, 0, [MIB] * 200)
    site.client.upload_tar(site.name, tmp_path / "1.tar")
    scan = "assert sum(len(datapoint.content) for datapoint in handle.scan()) == 200 << 20"
    assert grown(_HANDLE, scan, (site.client.url, site.name)) < 60


def test_a_large_datapoint_is_in_memory_once(site: Site, tmp_path: Path) -> None:
    write_archive(tmp_path / "1.tar", 1, 0, [10, 200 * MIB])
    site.client.upload_tar(site.name, tmp_path / "1.tar")
    for read in ("handle.get(1)", "handle.get_many([0, 1])[1]", "list(handle.scan(1))[0].content"):
        assert 200 <= grown(_HANDLE, f"assert len({read}) == 200 << 20", (site.client.url, site.name)) < 260, read
