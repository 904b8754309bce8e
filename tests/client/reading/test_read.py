"""Reading datapoints through a handle, from a real server and a real S3."""

import pickle
import threading
import time
from pathlib import Path

import pytest
from pyroaring import BitMap64

from datas3t.client import (
    ArchiveError,
    Client,
    DatapointNotFound,
    InvalidArgument,
    NotFound,
    ObjectChanged,
    TransferFailed,
)
from datas3t.client._reading import index_files
from datas3t.client._reading.costs import Costs
from tests.client.archives import Sample, sample
from tests.client.sites import Site
from tests.support.faults import Fault


def fill(site: Site, folder: Path) -> dict[int, bytes]:
    """Upload three archives with a gap between keys and return the content of each key."""
    contents: dict[int, bytes] = {}
    for first, sizes in ((0, [100_000] * 40), (100, [0, 1, 511, 512, 513]), (105, [3 << 20, 5])):
        each = sample(folder / f"{first}.tar", first, *sizes)
        site.upload(each)
        contents |= each.contents
    return contents


def test_a_handle_makes_no_request_until_it_is_used() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert client.datas3t("any").name == "any"


def test_keys_and_length_are_those_of_the_existing_datapoints(site: Site, tmp_path: Path) -> None:
    handle = site.client.datas3t(site.name)
    assert (len(handle), handle.keys) == (0, BitMap64())
    contents = fill(site, tmp_path)
    assert len(handle) == 0
    handle.refresh()
    assert (len(handle), handle.keys) == (len(contents), BitMap64(contents))
    assert 104 in handle
    assert 99 not in handle
    assert "104" not in handle


def test_every_datapoint_is_read_alone_and_with_others(site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    for key in (0, 39, 100, 101, 104, 105, 106):
        assert handle.get(key) == contents[key]
    wanted = [106, 7, 100, 39, 7, 0, 101, 105]
    assert handle.get_many(wanted) == [contents[key] for key in wanted]
    assert handle.get_many(iter(contents)) == list(contents.values())
    assert handle.get_many([]) == []


def test_a_missing_key_is_named_before_anything_is_fetched(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    fill(relayed, tmp_path)
    handle = relayed.client.datas3t(relayed.name)
    assert handle.keys
    before = len(relayed.relay.requests)
    for missing in (40, 99, 107, 2**63, -1):
        with pytest.raises(DatapointNotFound, match=f"no datapoint {missing}") as raised:
            handle.get_many([1, missing, 2])
        assert raised.value.key == missing
    assert len(relayed.relay.requests) == before


def test_an_unknown_datas3t_raises_at_the_first_use(client: Client) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        client.datas3t("nowhere").get(1)


def test_neighbours_are_fetched_by_one_request(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 0, *[1000] * 500)
    relayed.upload(archive)
    handle = relayed.client.datas3t(relayed.name)
    handle.get(0)
    before = len(relayed.relay.requests)
    assert handle.get_many(range(500)) == list(archive.contents.values())
    assert len(relayed.relay.requests) - before == 1


def test_one_record_of_a_large_index_is_read_without_the_others(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    monkeypatch.setattr(index_files, "_SMALL", 1024)
    monkeypatch.setattr(Costs, "latency", 1e-6)  # so that a window is cheaper than the whole index
    monkeypatch.setattr(Costs, "per_request", 1e-6)
    archive = sample(tmp_path / "1.tar", 0, *[10] * 5000)
    relayed.upload(archive)
    handle = relayed.client.datas3t(relayed.name)
    before = relayed.relay.bytes_to_client
    assert handle.get_many([4999, 17, 18]) == [archive.contents[key] for key in (4999, 17, 18)]
    assert relayed.relay.bytes_to_client - before < 20_000, "a window of the index and one of the checksums"
    assert handle.get_many(range(5000)) == list(archive.contents.values())


@pytest.mark.parametrize(("first", "last"), [(None, None), (3, 101), (40, 99), (106, None), (200, 300)])
def test_a_scan_is_in_key_order_with_names_and_contents(
    site: Site, tmp_path: Path, first: int | None, last: int | None
) -> None:
    contents = fill(site, tmp_path)
    found = list(site.client.datas3t(site.name).scan(first, last))
    wanted = {k: v for k, v in contents.items() if (first or 0) <= k <= (200 if last is None else last)}
    assert {each.key: each.content for each in found} == wanted
    assert [each.key for each in found] == sorted(wanted)
    assert [each.name for each in found] == [f"{key:020d}.bin" for key in wanted]


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 1), (1, 2**63), (2**63, None)])
def test_a_scan_of_an_invalid_range_raises_at_once(first: int, last: int | None) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidArgument, match="not a range of keys"):
        client.datas3t("any").scan(first, last)


def test_keys_may_be_any_kind_of_integer(site: Site, tmp_path: Path) -> None:
    class Number:
        def __init__(self, value: int) -> None:
            self.value = value

        def __index__(self) -> int:
            return self.value

    fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    assert Number(104) in handle
    assert Number(99) not in handle


def test_a_scan_does_not_read_large_datapoints_ahead(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 1, *[9 << 20] * 3)
    relayed.upload(archive)
    before = relayed.relay.bytes_to_client
    found = relayed.client.datas3t(relayed.name).scan()
    first = next(found)
    assert relayed.relay.bytes_to_client - before < 10 << 20
    assert [first.content, *(each.content for each in found)] == list(archive.contents.values())


def test_a_pickled_handle_reads_after_unpickling(site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    handle.get(1)
    unpickled = pickle.loads(pickle.dumps(handle))
    assert unpickled.get(105) == contents[105]
    unpickled._session.close()


def test_many_threads_can_share_a_handle(site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    failures: list[object] = []

    def work(number: int) -> None:
        keys = list(contents)[number:]
        try:
            failures.extend(key for key in keys if handle.get(key) != contents[key])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_expired_urls_are_renewed(short_url_client: Client, site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = short_url_client.datas3t(site.name)
    assert handle.get(1) == contents[1]
    time.sleep(2.2)  # longer than the URLs live
    assert handle.get_many([1, 106]) == [contents[1], contents[106]]


def test_a_url_that_s3_refuses_is_renewed(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    contents = fill(relayed, tmp_path)
    handle = relayed.client.datas3t(relayed.name)
    handle.get(1)
    relayed.relay.plan(Fault(status=403, only=b"GET "))
    assert handle.get(2) == contents[2]
    assert relayed.relay.planned == 0


def test_a_replaced_datarange_is_read_from_its_new_object(site: Site, tmp_path: Path) -> None:
    old, new = (sample(tmp_path / f"{seed}.tar", 0, 1000, 2000, seed=seed) for seed in (1, 2))
    site.upload(old)
    handle = site.client.datas3t(site.name)
    assert handle.get(1) == old.contents[1]
    replace(site, new)
    assert handle.get(0) == new.contents[0]
    assert [each.content for each in handle.scan()] == list(new.contents.values())


def test_a_deleted_datapoint_is_not_found(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 0, 1000))
    handle = site.client.datas3t(site.name)
    handle.get(0)
    delete(site)
    with pytest.raises(DatapointNotFound):
        handle.get(0)


def test_a_replaced_object_is_an_error_and_its_bytes_are_never_returned(site: Site, tmp_path: Path) -> None:
    archive = sample(tmp_path / "1.tar", 0, 1000)
    site.upload(archive)
    key = site.client.list_dataranges(site.name)[0].object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=bytes(len(archive.data)))
    with pytest.raises(ObjectChanged):
        site.client.datas3t(site.name).get(0)


def test_a_lasting_failure_of_s3_raises_transfer_failed(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    fill(relayed, tmp_path)
    handle = relayed.client.datas3t(relayed.name)
    handle.get(1)
    relayed.relay.always = Fault(status=400, only=b"GET ")
    with pytest.raises(TransferFailed) as raised:
        handle.get(2)
    assert "X-Amz" not in str(raised.value)


def test_an_index_that_does_not_fit_its_archive_names_the_datarange(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 5, 1000, 1000))
    handle = site.client.datas3t(site.name)
    handle._reader.catalogues.covering(5, 5, 6)._columns.entries_ends[0] = 512
    with pytest.raises(ArchiveError, match="datarange 5 to 6 does not fit"):
        handle.get(5)


def delete(site: Site) -> None:
    """Delete the only datarange and wait until its objects are deleted."""
    (datarange,) = site.client.list_dataranges(site.name)
    site.client.delete_dataranges(site.name, datarange.first, datarange.last)
    deadline = time.monotonic() + 30
    while datarange.object_key in site.objects() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert datarange.object_key not in site.objects()


def replace(site: Site, sample: Sample) -> None:
    """Replace the only datarange."""
    delete(site)
    site.upload(sample)
