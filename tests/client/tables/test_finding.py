"""Datapoints by the names of files, as a dict would have them, and how little is read for one."""

import pickle
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datas3t.archive import paths
from datas3t.client._tables import encoding, finding, merging
from datas3t.client._tables.files_rows import files_rows
from datas3t.client._tables.footers import Footers
from datas3t.client._tables.path_index import PathIndex
from datas3t.client.errors import PathNotFound
from datas3t.client.keyset import KeySet
from tests.client.tables.memory import MemoryFile, Store, file_of


def everything(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(keys), np.bool_)


def index_of(files: list[MemoryFile], folder: Path, store: Store | None = None) -> PathIndex:
    return PathIndex(files, Footers(folder, 1 << 30), (store or Store()).fetch)


def rows_of(names: dict[int, bytes]) -> pa.Table:
    keys = sorted(names)
    sizes = [1] * len(keys)
    return files_rows(keys, [paths.encode(names[key]) for key in keys], sizes, None, sizes)


@pytest.fixture
def small_groups() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(encoding, "GROUP_ROWS", 3)
    patch.setattr(merging, "WINDOW", 500)
    yield
    patch.undo()


keys = st.integers(0, 40)
names = st.sampled_from([b"a.jpg", b"b.jpg", b"c/a.jpg", b"c/b.jpg", b"c/d/%.png", b"caf\xe9", "é".encode(), b"z"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(st.dictionaries(keys, names, min_size=1, max_size=12), min_size=1, max_size=5), present=st.sets(keys)
)
@pytest.mark.usefixtures("small_groups")
def test_names_are_found_as_in_a_dict(
    drawn: list[dict[int, bytes]], present: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    model: dict[int, bytes] = {}
    for rows in drawn:
        model |= rows
    files = [file_of(rows_of(rows), counter) for counter, rows in enumerate(drawn, 1)]
    index = index_of(files, tmp_path_factory.mktemp("cache"))
    kept = KeySet(present)
    shown = {key: name for key, name in model.items() if key in present}

    for name in (b"a.jpg", b"c/d/%.png", b"caf\xe9", "é".encode(), b"missing"):
        expected = sorted((key for key in shown if shown[key] == name), reverse=True)
        assert finding.find_all(index, kept.mask, name) == expected
    newest = {name: max(key for key in shown if shown[key] == name) for name in shown.values()}
    assert finding.find_many(index, kept.mask, newest) == list(newest.values())
    for pattern in ("*.jpg", "c/**", "**/*.jpg", "caf?", "c/d/%.*", "z", "**"):
        by_hand = {"c/**": "c/*", "**/*.jpg": "*.jpg", "**": "*"}.get(pattern, pattern)
        expected = sorted(
            key
            for name, key in newest.items()
            if fnmatchcase(name.decode("utf-8", "surrogateescape"), by_hand)
            and ("/" not in pattern) <= (b"/" not in name or pattern == "**")
        )
        assert list(finding.glob(index, kept.mask, pattern)) == expected, pattern
    asked = np.arange(45)
    texts = [shown[key].decode("utf-8", "surrogateescape") if key in shown else None for key in asked.tolist()]
    assert finding.paths_of(index, kept.mask, asked) == texts


def test_one_name_of_a_million_takes_one_row_group(tmp_path: Path) -> None:
    count, each = 1_000_000, 250_000
    files = []
    for number in range(count // each):
        first = number * each
        listed = [f"photos/{key // 1000:04d}/{key:07d}.jpg" for key in range(first, first + each)]
        files.append(
            file_of(files_rows(range(first, first + each), listed, range(each), None, range(each)), number + 1)
        )
    store = Store()
    index = index_of(files, tmp_path, store)
    assert store.fetched <= 4 * (64 << 10)  # their footers

    asked = Store()
    index._fetch = asked.fetch
    assert finding.find_all(index, everything, "photos/0777/0777123.jpg") == [777_123]
    assert asked.requests == 1
    assert asked.fetched < 200_000
    assert finding.find_all(index, everything, "photos/0777/0777124.jpg") == [777_124]
    assert asked.requests == 1  # what was read is kept
    assert finding.find_all(index, everything, "photos/9/none.jpg") == []
    assert asked.requests == 1
    assert list(finding.glob(index, everything, "photos/0777/*9.jpg")) == list(range(777_009, 778_000, 10))
    assert asked.requests == 1
    assert finding.paths_of(index, everything, np.array([5, 999_999])) == [
        "photos/0000/0000005.jpg",
        "photos/0999/0999999.jpg",
    ]
    assert asked.requests <= 3


def test_what_was_read_is_kept_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datas3t.client._tables.path_index._MAX_DECODED", 100_000)
    monkeypatch.setattr(encoding, "GROUP_ROWS", 500)
    file = file_of(
        files_rows(range(10_000), [f"{key:05d}" for key in range(10_000)], range(10_000), None, range(10_000)), 1
    )
    index = index_of([file], tmp_path)
    for key in range(0, 10_000, 250):
        assert finding.find_all(index, everything, f"{key:05d}") == [key]
    assert 0 < index._decoded.size <= 100_000
    assert sum(table.nbytes for table in index._decoded._values.values()) == index._decoded.size


def test_a_name_that_no_datapoint_has_is_a_key_error_that_shows_it(tmp_path: Path) -> None:
    index = index_of([file_of(rows_of({1: b"a"}), 1)], tmp_path)
    with pytest.raises(PathNotFound, match="no datapoint has the path 'b'") as caught:
        finding.find_many(index, everything, ["a", "b", "c"])
    assert caught.value.path == "b"
    assert isinstance(caught.value, KeyError)
    assert pickle.loads(pickle.dumps(caught.value)).path == "b"
    assert finding.find_many(index, everything, [Path("a"), b"a"]) == [1, 1]
    assert index_of([], tmp_path).with_paths(["a"]) == []
