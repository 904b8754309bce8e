"""Aggregates through the SDK: which bytes S3 copies and which are moved, faults, and errors."""

import errno
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datas3t.archive import tar as walk
from datas3t.client import Aborted, Aggregated, ChecksumMismatch, FileError, InvalidArgument, NotFound, ObjectChanged
from datas3t.client._calls.renewal import Lifetime
from tests.client.archives import MIB, Sample, sample
from tests.client.sites import Site
from tests.support.faults import Fault
from tests.support.memory import memory_growth
from tests.support.stack import wait_until

COPY = b"x-amz-copy-source"


def upload_all(site: Site, folder: Path, *archives: list[int]) -> list[Sample]:
    """Upload archives of datapoints of these sizes, numbered without gaps."""
    samples, first = [], 1
    for sizes in archives:
        samples.append(sample(folder / f"{first}.tar", first, *sizes))
        first += len(sizes)
        site.upload(samples[-1])
    return samples


def merged(samples: list[Sample]) -> bytes:
    """Return the archive of all their entries."""
    return b"".join(each.data[:-1024] for each in samples) + bytes(1024)


def assert_merged(site: Site, samples: list[Sample]) -> None:
    """Assert that the only datarange has exactly these entries, and the index for them."""
    data, index = site.stored()
    assert data == merged(samples)
    assert index == walk.scan(lambda start, stop: data[start:stop], len(data), first_key=1).index
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert len(archive.getnames()) == sum(len(each.contents) for each in samples)


def test_twenty_archives_are_merged_without_moving_their_contents(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    proxy = relayed.relay
    samples = upload_all(relayed, tmp_path, *[[5 * MIB, 1000 + n] for n in range(20)])
    before = proxy.bytes_to_server, proxy.bytes_to_client
    done = relayed.client.aggregate(relayed.name, 1, 40)
    size = sum(len(each.data) - 1024 for each in samples)
    assert done == Aggregated(1, 40, size + 1024, bytes_copied=size, bytes_moved=1024)
    # The relay also counts the server's requests: it reads 40 indices and some headers, and writes the new index.
    assert proxy.bytes_to_server - before[0] < 200_000
    assert proxy.bytes_to_client - before[1] < 200_000
    assert_merged(relayed, samples)


def test_small_archives_between_large_ones_are_moved(site: Site, tmp_path: Path) -> None:
    small = [[n * 100, 0, 3000] for n in range(1, 6)]
    samples = upload_all(site, tmp_path, *small[:3], [6 * MIB], *small[3:], [7 * MIB], [100])
    seen: dict[str, tuple[int, int]] = {}
    done = site.client.aggregate(
        site.name, 1, 18, progress=lambda phase, current, total: seen.update({phase: (current, total)})
    )
    assert_merged(site, samples)
    assert done.bytes_copied + done.bytes_moved == done.size == len(merged(samples))
    assert done.bytes_copied > 2 * MIB
    assert list(seen) == ["check", "plan", "copy", "move", "complete"]
    assert all(current == total for current, total in seen.values())


def test_small_archives_alone_make_one_part(site: Site, tmp_path: Path) -> None:
    samples = upload_all(site, tmp_path, *[[10, 20, 30]] * 30)
    done = site.client.aggregate(site.name, 1, 90, max_parallelism=16)
    assert_merged(site, samples)
    assert (done.bytes_copied, done.bytes_moved) == (0, done.size)


def test_many_consecutive_small_archives_fill_several_parts(site: Site, tmp_path: Path) -> None:
    samples = upload_all(site, tmp_path, *[[4 * MIB]] * 16)
    done = site.client.aggregate(site.name, 1, 16, max_parallelism=2)
    assert_merged(site, samples)
    assert done.bytes_moved == done.size


@pytest.mark.parametrize("status", [403, 501, 400])
def test_bytes_are_moved_if_s3_refuses_to_copy(relayed: Site, tmp_path: Path, status: int) -> None:
    assert relayed.relay
    samples = upload_all(relayed, tmp_path, *[[5 * MIB, 10]] * 6)
    relayed.relay.always = Fault(status=status, only=COPY)
    done = relayed.client.aggregate(relayed.name, 1, 12, max_retries=1)
    assert (done.bytes_copied, done.bytes_moved) == (0, done.size)
    assert_merged(relayed, samples)


def test_only_the_part_that_s3_refuses_to_copy_is_moved(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    samples = upload_all(relayed, tmp_path, *[[5 * MIB, 10]] * 6)
    relayed.relay.always = Fault(status=400, only=COPY + b"-range&partNumber=3&")
    done = relayed.client.aggregate(relayed.name, 1, 12)
    assert done.bytes_moved == len(samples[2].data) - 1024 + 1024
    assert_merged(relayed, samples)


def test_a_large_part_that_s3_refuses_to_copy_goes_through_a_temporary_file(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    monkeypatch.setattr("datas3t.client._transfers.filling._MAX_IN_MEMORY", 1 * MIB)
    monkeypatch.setattr("datas3t.client._transfers.filling._MAX_FETCH", 2 * MIB)
    samples = upload_all(relayed, tmp_path, [7 * MIB], [6 * MIB, 5])
    relayed.relay.always = Fault(status=501, only=COPY)
    relayed.client.aggregate(relayed.name, 1, 3)
    assert_merged(relayed, samples)


def test_a_full_disk_raises_file_error_and_a_later_call_resumes(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    samples = upload_all(relayed, tmp_path, [7 * MIB], [6 * MIB, 5])
    relayed.relay.always = Fault(status=501, only=COPY)
    with monkeypatch.context() as full:
        full.setattr("datas3t.client._transfers.filling._MAX_IN_MEMORY", 1 * MIB)
        full.setattr("tempfile.TemporaryFile", _full)
        with pytest.raises(FileError, match="No space left on device; free some space"):
            relayed.client.aggregate(relayed.name, 1, 3)
    relayed.client.aggregate(relayed.name, 1, 3)
    assert_merged(relayed, samples)


def _full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def flipping(site: Site, bit: int, first: int, last: int) -> "tuple[Callable[[str, int, int], None], list[bytes]]":
    """Return a progress callback, from whose phase "move" on a bit flips in some of the bodies, and what is fetched."""
    moved: list[bytes] = []

    def rule(line: bytes) -> Fault:
        if not (line.startswith(b"GET ") and b".tar?" in line):
            return Fault()
        moved.append(line)
        return Fault(flip=bit) if first <= len(moved) <= last else Fault()

    def on_progress(phase: str, _current: int, _total: int) -> None:
        if phase == "move":
            assert site.relay
            site.relay.rule = rule

    return on_progress, moved


# Some archives share a part; with MIXED, a content is cut into two parts that are both moved.
SMALL, MIXED = [[300, 0, 3000]] * 5, [[5 * MIB, 10]] * 3


@pytest.mark.parametrize("archives", [SMALL, MIXED])
@pytest.mark.parametrize("bit", [8 * 520, 8 * 600 + 7])
def test_a_bit_that_flips_while_bytes_are_moved_is_fetched_again(
    relayed: Site, tmp_path: Path, archives: list[list[int]], bit: int, every_step: None
) -> None:
    assert relayed.relay
    samples = upload_all(relayed, tmp_path, *archives)
    relayed.relay.always = Fault(status=501, only=COPY)
    on_progress, moved = flipping(relayed, bit, 2, 2)
    relayed.client.aggregate(relayed.name, 1, sum(map(len, archives)), progress=on_progress)
    assert len(moved) > len(archives)
    assert_merged(relayed, samples)


def test_a_content_that_differs_again_is_named_and_nothing_is_merged(
    relayed: Site, tmp_path: Path, every_step: None
) -> None:
    upload_all(relayed, tmp_path, *SMALL)
    on_progress, _ = flipping(relayed, 8 * 520, 1, 1_000)
    with pytest.raises(ChecksumMismatch) as raised:
        relayed.client.aggregate(relayed.name, 1, 15, max_parallelism=1, progress=on_progress)
    error = raised.value
    assert (error.datas3t, error.key, error.datarange) == (relayed.name, 1, (1, 3))
    assert error.object.endswith(".tar")
    assert relayed.relay
    relayed.relay.rule = None
    assert len(relayed.client.list_dataranges(relayed.name)) == 5
    wait_until(lambda: not relayed.multiparts(), what="the upload to be cancelled")
    assert relayed.client.aggregate(relayed.name, 1, 15).datapoints == 15


def test_connection_faults_do_not_change_the_result(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    samples = upload_all(relayed, tmp_path, [5 * MIB], [5 * MIB, 7], [10], [20, 30], [6 * MIB])
    relayed.relay.plan(
        Fault(cut_after=0, only=COPY),  # S3 copies, but the response is lost
        Fault(refuse=True, only=COPY),
        Fault(status=503, only=COPY),
        Fault(status=403, only=COPY),  # the URL is renewed
        Fault(cut_after=500, only=b"GET "),
        Fault(cut_request_after=2000, only=b"SignedHeaders=host&partNumber"),
        Fault(cut_after=0, only=b"SignedHeaders=host&partNumber"),
    )
    done = relayed.client.aggregate(relayed.name, 1, 7)
    assert relayed.relay.planned == 0
    assert done.bytes_copied == len(samples[0].data) + len(samples[1].data) - 2 * 1024
    assert_merged(relayed, samples)


def test_stale_urls_are_renewed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = upload_all(site, tmp_path, [5 * MIB], [5 * MIB, 7], [10], [20, 30], [6 * MIB])
    monkeypatch.setattr(Lifetime, "is_over", lambda lifetime, refused=False: True)
    site.client.aggregate(site.name, 1, 7)
    assert_merged(site, samples)


def test_more_parts_than_one_call_signs(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datas3t.client._calls.renewal._SIGNED_AT_ONCE", 2)
    monkeypatch.setattr("datas3t.client._calls.renewal._MOST_HELD", 3)
    samples = upload_all(site, tmp_path, *[[5 * MIB, n] for n in range(7)])
    site.client.aggregate(site.name, 1, 14)
    assert_merged(site, samples)


@pytest.mark.parametrize(
    ("first", "last", "nearest"),
    [(1, 5, (1, 4)), (2, 4, (1, 4)), (1, 2, (1, 4)), (1, 9, (1, 4)), (6, 20, (1, 4)), (30, 40, (1, 4))],
)
def test_the_error_for_an_unfit_range_names_the_nearest_fit_range(
    site: Site, tmp_path: Path, first: int, last: int, nearest: tuple[int, int]
) -> None:
    for n, sizes in [(1, [1, 2]), (3, [3, 4]), (6, [5]), (20, [6, 7])]:
        site.upload(sample(tmp_path / f"{n}.tar", n, *sizes))
    with pytest.raises(
        InvalidArgument, match=rf"the nearest range that can be aggregated is {nearest[0]} to {nearest[1]}"
    ) as caught:
        site.client.aggregate(site.name, first, last)
    assert caught.value.reason == "AGGREGATE_RANGE_UNFIT"
    assert (caught.value.metadata["nearest_first"], caught.value.metadata["nearest_last"]) == ("1", "4")


def test_an_unknown_datas3t_raises_not_found(site: Site) -> None:
    with pytest.raises(NotFound):
        site.client.aggregate("no-such", 1, 4)


def test_a_source_that_is_deleted_concurrently_aborts_the_aggregate(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    upload_all(relayed, tmp_path, [5 * MIB], [10], [20])

    def delete(phase: str, current: int, total: int) -> None:
        if (phase, current) == ("plan", total):
            relayed.client.delete_dataranges(relayed.name, 2, 2)

    with pytest.raises(Aborted, match="deleted or aggregated"):
        relayed.client.aggregate(relayed.name, 1, 3, progress=delete)
    assert [each.first for each in relayed.client.list_dataranges(relayed.name)] == [1, 3]
    wait_until(lambda: len(relayed.objects()) == 6 and not relayed.multiparts())
    assert relayed.aggregate_journal(1, 3).read() is None


def test_an_overwritten_source_raises_object_changed(site: Site, tmp_path: Path) -> None:
    first, _ = upload_all(site, tmp_path, [10], [20])
    key = site.client.list_dataranges(site.name)[0].object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"\0" * len(first.data))
    with pytest.raises(ObjectChanged, match=re.escape(f"the object {key} is missing or was changed")) as caught:
        site.client.aggregate(site.name, 1, 2)
    assert "restore it, or delete its datarange and upload it again" in str(caught.value)
    assert (caught.value.reason, caught.value.metadata["object_key"]) == ("OBJECT_CHANGED", key)
    wait_until(lambda: not site.multiparts())
    assert len(site.objects()) == 6


def test_an_overwritten_source_that_s3_copies_raises_object_changed(site: Site, tmp_path: Path) -> None:
    first, _ = upload_all(site, tmp_path, [5 * MIB], [20])
    key = site.client.list_dataranges(site.name)[0].object_key
    other = bytearray(first.data)
    other[1 * MIB] ^= 1
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=bytes(other))
    with pytest.raises(ObjectChanged, match=re.escape(f"the object {key} is missing or was changed")) as caught:
        site.client.aggregate(site.name, 1, 2)
    assert caught.value.reason == "OBJECT_CHANGED"


def test_memory_does_not_grow_with_the_number_of_parts(site: Site, tmp_path: Path) -> None:
    samples = upload_all(site, tmp_path, *[[4 * MIB]] * 24)
    # The first aggregate, of 20 MiB, needs what each needs; the second is to need little more for 96 MiB.
    before = "from datas3t.client import Client\nclient = Client(arguments[0])\n"
    before += "client.aggregate(arguments[1], 1, 5, max_parallelism=1)"
    merge = "client.aggregate(arguments[1], 1, 24, max_parallelism=1)"
    assert memory_growth(before, merge, [site.client.url, site.name]) < 40
    assert_merged(site, samples)
