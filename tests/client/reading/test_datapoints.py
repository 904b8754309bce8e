"""Datapoints with their names, their sizes, and samples of several datas3ts."""

import pickle
from pathlib import Path

import pytest

from datas3t.archive import write
from datas3t.client import Client, DatapointNotFound, InvalidArgument, KeySet
from datas3t.training import Batches, Joined, collate, decode
from tests.client.sites import Site
from tests.support.tars import pax

FIRST = 100
CONTENTS = [b"", b"a", b"b" * 511, b"c" * 512, b"d" * 100_000, b"e" * (9 << 20), b'{"f": 1}', b"g" * 3]
EXTENSIONS = ["jpg", "json.zst", "x" * 79, "Öl", "png", "bin", "json", "z" * 150]


def entry(key: int, extension: str, content: bytes) -> bytes:
    name = f"{key:020d}.{extension}".encode()
    long = pax({b"path": name}) if len(name) > 100 else b""
    return long + write.header(name[:100].decode(), len(content)) + content + write.padding(len(content))


def upload(client: Client, name: str, path: Path, first: int, entries: list[tuple[str, bytes]]) -> None:
    packed = (entry(first + at, extension, content) for at, (extension, content) in enumerate(entries))
    path.write_bytes(b"".join(packed) + write.END)
    client.upload_tar(name, path)


@pytest.fixture
def filled(site: Site, tmp_path: Path) -> Site:
    entries = list(zip(EXTENSIONS, CONTENTS, strict=True))
    upload(site.client, site.name, tmp_path / "one.tar", FIRST, entries)
    upload(site.client, site.name, tmp_path / "two.tar", 500, [("txt", b"two")])
    return site


def test_datapoints_have_names_extensions_and_sizes(filled: Site) -> None:
    handle = filled.client.datas3t(filled.name)
    keys = [FIRST + at for at in (7, 0, 5, 2, 3, 1, 4, 6, 0)]
    datapoints = handle.datapoints([*keys, 500])
    assert [each.key for each in datapoints] == [*keys, 500]
    assert [each.content for each in datapoints] == [*(CONTENTS[key - FIRST] for key in keys), b"two"]
    assert [each.extension for each in datapoints] == [*(EXTENSIONS[key - FIRST] for key in keys), "txt"]
    assert [each.size for each in datapoints] == [len(each.content) for each in datapoints]
    scanned = {each.key: each for each in handle.scan()}
    assert {each.key: each for each in datapoints} == scanned
    assert [view.extension for view in handle.scan(copy=False)] == [*EXTENSIONS, "txt"]
    assert handle.datapoints([FIRST]) == datapoints[1:2]
    assert handle.datapoints([]) == []
    with pytest.raises(DatapointNotFound) as raised:
        handle.datapoints([FIRST, 499])
    assert raised.value.key == 499


@pytest.mark.parametrize("few", [0, 10_000])
def test_sizes_of_all_are_in_the_order_of_the_keys(filled: Site, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr("datas3t.client._reading.reader._FEW", few)
    handle = filled.client.datas3t(filled.name)
    assert handle.sizes().tolist() == [each.size for each in handle.scan()] != []
    some = handle.keyset[::2]
    assert handle.at(some).sizes().tolist() == handle.sizes(some).tolist()
    with pytest.raises(DatapointNotFound) as raised:
        handle.at(some | KeySet([10**12])).sizes()
    assert raised.value.key == 10**12
    assert handle.at(KeySet()).sizes().tolist() == []


def test_sizes_come_from_the_indices(filled: Site) -> None:
    handle = filled.client.datas3t(filled.name)
    assert handle.sizes([500, FIRST + 5, FIRST, 500]).tolist() == [3, 9 << 20, 0, 3]
    assert handle.sizes([]).tolist() == []
    with pytest.raises(DatapointNotFound):
        handle.sizes([2**70])


def test_the_keyset_of_a_handle_stays_until_a_refresh(filled: Site, tmp_path: Path) -> None:
    handle = filled.client.datas3t(filled.name)
    keys = handle.keyset
    assert keys.spans == [(FIRST, FIRST + 7), (500, 500)]
    upload(filled.client, filled.name, tmp_path / "three.tar", 501, [("txt", b"three")])
    assert handle.keyset == keys
    handle.refresh()
    assert len(handle.keyset) == len(keys) + 1


@pytest.fixture
def labels(filled: Site, bucket_name: str, tmp_path: Path) -> str:
    """Return the name of a datas3t with a label for some of the keys, and one without a datapoint."""
    name = f"{filled.name}--json"
    filled.client.add_datas3t(name, bucket=bucket_name)
    upload(filled.client, name, tmp_path / "labels.tar", FIRST + 3, [("json", b'{"n": %d}' % n) for n in range(7)])
    return name


def test_samples_of_several_datas3ts(filled: Site, labels: str) -> None:
    sources = {"image": filled.client.datas3t(filled.name), "label": filled.client.datas3t(labels)}
    inner = Joined(sources)
    assert inner.keys == KeySet(range(FIRST + 3, FIRST + 8))
    assert len(inner) == 5
    samples = inner.get_many([FIRST + 7, FIRST + 3])
    assert samples[1] == {"key": FIRST + 3, "image": CONTENTS[3], "label": b'{"n": 0}'}
    left = pickle.loads(pickle.dumps(Joined(sources, how="left")))
    assert left.keys == sources["image"].keyset
    image, both = left.datapoints([FIRST, FIRST + 6])
    assert image["label"] is None
    assert decode(both["image"]) == {"f": 1}
    assert decode(both["label"]) == {"n": 3}
    read = [sample["key"] for keys in Batches(left.keys, 2, uneven="keep") for sample in left.get_many(keys)]
    assert sorted(read) == list(left.keys)
    batch = collate(inner.get_many(inner.keys))
    assert batch["key"].tolist() == list(inner.keys)
    assert batch["image"] == CONTENTS[3:]
    for key in (FIRST, 2**70, -1):
        with pytest.raises(DatapointNotFound):
            inner.get_many([key])


def test_a_deleted_part_of_a_sample_is_an_error(filled: Site, labels: str) -> None:
    joined = Joined({"image": filled.client.datas3t(filled.name), "label": filled.client.datas3t(labels)})
    filled.client.datas3t(labels).delete_dataranges(FIRST + 3, FIRST + 9)
    fresh = pickle.loads(pickle.dumps(joined))
    assert fresh.keys == joined.keys
    with pytest.raises(DatapointNotFound):
        fresh.get_many([FIRST + 4])


@pytest.mark.parametrize(("names", "how"), [([], "inner"), (["key"], "inner"), (["a"], "outer")])
def test_what_is_no_join_is_refused(names: list[str], how: str) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidArgument):
        Joined({name: client.datas3t("any") for name in names}, how)  # type: ignore[arg-type]
