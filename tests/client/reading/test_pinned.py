"""A handle that is pinned to a set of keys, and reads of keys that may be missing."""

import pickle
from pathlib import Path

import pytest
from pyroaring import BitMap64

from datas3t.client import DatapointNotFound, Datas3t, InvalidArgument, KeySet
from tests.client.archives import sample
from tests.client.sites import Site


def fill(site: Site, folder: Path) -> dict[int, bytes]:
    """Upload two archives next to each other, and one behind a gap."""
    contents: dict[int, bytes] = {}
    for first, sizes in ((0, [700] * 400), (400, [9 << 20, 5]), (1000, [100] * 300)):
        each = sample(folder / f"{first}.tar", first, *sizes)
        site.upload(each)
        contents |= each.contents
    return contents


def read(handle: Datas3t, first: int | None = None, last: int | None = None) -> dict[int, bytes]:
    return {each.key: each.content for each in handle.scan(first, last)}


SETS = {
    "all": [(0, 401), (1000, 1299)],
    "long and short": [(3, 3), (7, 300), (303, 303), (305, 401), (1000, 1000), (1002, 1299)],
    "single": [(key, key) for key in [*range(0, 400, 3), 400, *range(1001, 1300, 50)]],
    "one": [(401, 401)],
    "none": [],
}


@pytest.mark.parametrize("spans", SETS.values(), ids=SETS)
def test_a_pinned_handle_has_the_keys_of_its_set(site: Site, tmp_path: Path, spans: list[tuple[int, int]]) -> None:
    contents = fill(site, tmp_path)
    keys = KeySet.of(spans)
    handle = pickle.loads(pickle.dumps(site.client.datas3t(site.name).at(keys)))
    expected = {key: contents[key] for key in keys}
    assert (len(handle), handle.keys, handle.keyset) == (len(keys), BitMap64(keys), keys)
    assert read(handle) == expected
    assert {view.key: bytes(view.content) for view in handle.scan(copy=False)} == expected
    assert read(handle, 200, 1100) == {key: content for key, content in expected.items() if 200 <= key <= 1100}
    split = handle.split(4)
    assert len(split) == min(4, len(keys))
    assert [key for span in split for key in read(handle, *span)] == list(keys)
    assert handle.get_many(keys) == list(expected.values())
    assert [each.content for each in handle.datapoints(keys[:5])] == list(expected.values())[:5]
    for key in {2, 1301} - {*keys}:
        assert key not in handle
        for call in (handle.get, lambda one: handle.get_many([one, one]), lambda one: next(handle.batches([[one]]))):
            with pytest.raises(DatapointNotFound, match=f"key {key} is not among the keys"):
                call(key)
    assert all(key in handle for key in keys[:10])


def test_a_pinned_handle_stays_when_datapoints_come_and_are_aggregated(site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    pinned = handle.at(handle.keyset)
    site.upload(sample(tmp_path / "more.tar", 500, *[10] * 20))
    handle.aggregate(0, 401)
    for each in (handle, pinned):
        each.refresh()
    assert len(handle) == len(contents) + 20
    assert pinned.keyset.digest != handle.keyset.digest
    assert len(pinned) == len(contents)
    assert read(pinned) == contents
    assert handle.at(KeySet([0])).at(KeySet([500])).get(500) == handle.get(500)
    assert repr(pinned).endswith(".at(KeySet(0-401, 1000-1299; 702 keys))")


def test_a_deleted_key_of_the_set_is_an_error_and_no_gap(site: Site, tmp_path: Path) -> None:
    fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    every, some = handle.at(handle.keyset), handle.at(KeySet(range(0, 1300, 100)) & handle.keyset)
    handle.delete_dataranges(400, 401)
    for pinned in (every, some):
        pinned.refresh()
        with pytest.raises(DatapointNotFound) as raised:
            read(pinned)
        assert raised.value.key == 400
        with pytest.raises(DatapointNotFound):
            pinned.get(400)
    assert len(read(every, 0, 399)) == 400


def test_missing_keys_are_none_if_wanted(site: Site, tmp_path: Path) -> None:
    contents = fill(site, tmp_path)
    handle = site.client.datas3t(site.name)
    wanted = [7, 402, 1299, 2**70, 7, -1, 0]
    assert handle.get_many(wanted, missing="none") == [contents.get(key) for key in wanted]
    assert handle.get_many([402], missing="none") == [None]
    assert handle.get_many([], missing="none") == []
    pinned = handle.at(KeySet([7, 402]))
    assert pinned.get_many(wanted, missing="none") == [contents[7], None, None, None, contents[7], None, None]
    handle.delete_dataranges(0, 399)
    for name in site.objects():  # as the server does later
        if "/dataranges/00000000000000000000-" in name:
            site.s3.delete_object(Bucket=site.bucket, Key=name)
    assert handle.get_many([1, 2, 1000], missing="none") == [None, None, contents[1000]]
    with pytest.raises(InvalidArgument, match="missing must be"):
        handle.get_many([1], missing="skip")  # type: ignore[call-overload]
