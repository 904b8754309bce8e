"""Many dataranges under one read: their indices come together, and are not in memory all at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from datas3t.client import Client, InvalidArgument
from datas3t.client._reading import index_files, indices
from datas3t.client._reading.fetching import Fetching, Piece
from datas3t.client._reading.index_files import IndexFiles
from tests.client.reading.served import Shelf, shelf
from tests.support.httpd import httpd
from tests.support.tars import archive

COUNT = 70


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path / "cache") as made:
        yield made


def small_ones() -> list[bytes]:
    return [archive(3 * number, (b"%d" % key for key in range(3 * number, 3 * number + 3))) for number in range(COUNT)]


CONTENTS = [b"%d" % key for key in range(3 * COUNT)]


def test_a_scan_gets_the_indices_of_small_dataranges_together(own: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = own.handle(*small_ones())
    together: list[int] = []
    fetch = Fetching.all

    def noting(self: Fetching, pieces: Sequence[Piece]) -> list[bytes]:
        together.append(sum(piece.of_index for piece in pieces))
        return fetch(self, pieces)

    monkeypatch.setattr(Fetching, "all", noting)
    assert [each.content for each in handle.scan()] == CONTENTS
    assert sum(together) == own.index_gets == COUNT
    assert max(together) >= COUNT // 4


def test_a_batch_of_keys_holds_the_windows_of_few_dataranges_at_a_time(
    own: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = own.handle(*small_ones())
    monkeypatch.setattr(indices, "TOGETHER", 8)
    at_once: list[int] = []
    windows = IndexFiles.windows

    def noting(
        self: IndexFiles, wanted: "dict[object, Sequence[int]]", fetching: Fetching, soon: int
    ) -> dict[index_files.Key, bytes]:
        at_once.append(len(wanted))
        return windows(self, wanted, fetching, soon)  # type: ignore[arg-type]

    monkeypatch.setattr(IndexFiles, "windows", noting)
    assert handle.get_many(range(3 * COUNT)) == CONTENTS
    assert max(at_once) == 8
    assert sum(at_once) == COUNT


def test_an_index_that_the_cache_cannot_keep_is_read_once_by_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_files, "_SMALL", 1024)
    count = 40_000
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=tmp_path, max_cache_size=1000) as client:
        own = Shelf(server, client)
        handle = own.handle(archive(0, [b""] * count))
        assert sum(1 for _ in handle.scan()) == count
        assert own.index_gets <= 4  # 16,384 records at a time


def test_an_index_that_is_small_and_cannot_be_kept_is_read_all_the_same(tmp_path: Path) -> None:
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=tmp_path, max_cache_size=10) as client:
        handle = Shelf(server, client).handle(*small_ones())
        assert handle.get(5) == b"5"
        assert handle.get_many(range(3 * COUNT)) == CONTENTS


def test_bounds_may_be_any_integers_and_nothing_else(own: Shelf) -> None:
    handle = own.handle(*small_ones())
    last = np.int64(2**63 - 1)
    assert [each.content for each in handle.scan(np.int64(200), last)] == CONTENTS[200:]  # type: ignore[arg-type]
    spans = handle.split(2_000_000_000, np.int64(3), last)  # type: ignore[arg-type]
    assert spans == [(key, key) for key in range(3, 3 * COUNT)]
    assert {type(key) for span in spans for key in span} == {int}
    with pytest.raises(TypeError):
        handle.scan(3.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        handle.split(0)
