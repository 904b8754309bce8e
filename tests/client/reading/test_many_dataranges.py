"""Reads of many dataranges: indices are fetched together, but are not all in memory at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from datas3t.client import Client, InvalidArgument, ObjectChanged
from datas3t.client._reading import index_files, indices
from datas3t.client._reading.fetching import Fetcher, Piece
from datas3t.client._reading.index_files import IndexFiles
from tests.client.reading.archive_host import ArchiveHost
from tests.support.httpd import httpd
from tests.support.tars import archive

COUNT = 70


def small_archives() -> list[bytes]:
    """Return COUNT archives of three datapoints each."""
    return [archive(3 * number, (b"%d" % key for key in range(3 * number, 3 * number + 3))) for number in range(COUNT)]


CONTENTS = [b"%d" % key for key in range(3 * COUNT)]


def test_a_scan_fetches_the_indices_of_small_dataranges_together(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.handle(*small_archives())
    counts: list[int] = []  # indices per batch of requests
    fetch_all = Fetcher.fetch_all

    def counting(self: Fetcher, pieces: Sequence[Piece]) -> list[bytes]:
        counts.append(sum(piece.of_index for piece in pieces))
        return fetch_all(self, pieces)

    monkeypatch.setattr(Fetcher, "fetch_all", counting)
    assert [each.content for each in handle.scan()] == CONTENTS
    assert sum(counts) == host.index_gets == COUNT
    assert max(counts) >= COUNT // 4


def test_a_batch_of_keys_loads_the_indices_of_few_dataranges_at_a_time(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.handle(*small_archives())
    monkeypatch.setattr(indices, "MAX_BATCH", 8)
    counts: list[int] = []  # dataranges per batch
    windows = IndexFiles.windows

    def counting(
        self: IndexFiles, wanted: "dict[object, Sequence[int]]", fetcher: Fetcher, *others: int
    ) -> dict[index_files.Key, bytes]:
        counts.append(len(wanted))
        return windows(self, wanted, fetcher, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(IndexFiles, "windows", counting)
    assert handle.get_many(range(3 * COUNT)) == CONTENTS
    assert max(counts) == 8
    assert sum(counts) == COUNT


def test_an_index_that_the_cache_cannot_keep_is_read_once_by_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_files, "_SMALL", 1024)
    count = 40_000
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=tmp_path, max_cache_size=1000) as client:
        host = ArchiveHost(server, client)
        handle = host.handle(archive(0, [b""] * count))
        assert sum(1 for _ in handle.scan()) == count
        assert host.index_gets <= 4  # 16,384 records per request


def test_a_small_index_that_the_cache_cannot_keep_is_read_from_memory(tmp_path: Path) -> None:
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=tmp_path, max_cache_size=10) as client:
        handle = ArchiveHost(server, client).handle(*small_archives())
        assert handle.get(5) == b"5"
        assert handle.get_many(range(3 * COUNT)) == CONTENTS


def test_bounds_may_be_any_type_of_integer_and_nothing_else(host: ArchiveHost) -> None:
    handle = host.handle(*small_archives())
    last = np.int64(2**63 - 1)
    assert [each.content for each in handle.scan(np.int64(200), last)] == CONTENTS[200:]  # type: ignore[call-overload]
    spans = handle.split(2_000_000_000, np.int64(3), last)  # type: ignore[arg-type]
    assert spans == [(key, key) for key in range(3, 3 * COUNT)]
    assert {type(key) for span in spans for key in span} == {int}
    with pytest.raises(TypeError):
        handle.scan(3.0)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument):
        handle.split(0)


def test_the_server_is_asked_about_the_datarange_alone_whose_object_is_missing(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.handle(*small_archives())
    catalogues = handle._reader.catalogues
    lost = catalogues.holding(100)
    assert lost is not None
    reads: list[tuple[str, Callable[[], object]]] = [
        (lost.index_url, lambda: handle.get_many(range(3 * COUNT))),
        (lost.data_url, lambda: handle.get_many(range(3 * COUNT))),
        (lost.data_url, lambda: list(handle.scan())),
    ]
    for url, read in reads:
        asked: list[int] = []
        monkeypatch.setattr(catalogues, "is_gone", lambda each, _, asked=asked: asked.append(each.id))
        saved = host.objects.pop(urlsplit(url).path)
        with pytest.raises(ObjectChanged):
            read()
        assert asked == [lost.id]
        host.objects[urlsplit(url).path] = saved
