"""Source of Grain: each key once, by threads and processes, in batches of one read, and resumed from checkpoints."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import grain
import grain.sources
import numpy as np
import pytest

from datas3t.client import Client, Datas3t, InvalidArgument, KeySet
from datas3t.grain import Source, batched
from tests.client.pages import run, upload
from tests.frameworks.datasets import KEYS, Uploader, content_of, key_in

# absl warns that its flags are not parsed; a fork of a process with threads is how Grain starts workers on some systems
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def key_of(datapoint: object) -> int:
    """Return the key of a datapoint whose content is whole."""
    return key_in(datapoint.content)  # type: ignore[attr-defined]


def keys_of(datapoints: list[object]) -> list[int]:
    return list(map(key_of, datapoints))


@pytest.fixture
def source(numbers: Datas3t) -> Source[int]:
    return Source(numbers, transform=key_of)


def test_it_is_a_source_of_grain(numbers: Datas3t, source: Source[int]) -> None:
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    assert len(source) == len(KEYS)
    assert [source[0], source[-1], source[np.int64(100)]] == [KEYS[0], KEYS[-1], KEYS[100]]
    for index in (len(KEYS), -len(KEYS) - 1):
        with pytest.raises(IndexError):
            source[index]
    plain = Source(numbers)
    assert plain[7].content == content_of(KEYS[7])
    assert [*grain.MapDataset.source(source)] == [*KEYS]
    assert source.__getitems__([3, 1, 3]) == source._getitems([3, 1, 3]) == [KEYS[3], KEYS[1], KEYS[3]]


def test_its_repr_says_what_the_data_is_and_not_where(
    uploaders: "Callable[[], Uploader]", numbers: Datas3t, more_numbers: Datas3t
) -> None:
    uploader = uploaders()
    uploader.upload(0, 9)
    uploader.upload(10, 19)
    with Client("http://localhost:1") as elsewhere:
        other = elsewhere.datas3t(uploader.name).at(KeySet.of([(0, 19)]))
        before = repr(Source(uploader.handle))
        assert repr(Source(other)) == before
    uploader.client.datas3t(uploader.name).aggregate(0, 19)
    assert repr(Source(uploader.handle)) == before
    assert "http" not in before
    assert uploader.name in before
    assert repr(Source(numbers)) != repr(Source(numbers, keys=KEYS[:100])) != repr(Source(more_numbers))


def test_batches_are_one_read_each(numbers: Datas3t, source: Source[int], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = source._samples.read

    def counted(keys: list[int]) -> list[Any]:
        reads.append(len(keys))
        return list(read(keys))

    monkeypatch.setattr(source._samples, "read", counted)
    order = grain.MapDataset.range(len(source)).shuffle(seed=3)
    batches = list(batched(source, order, 25))
    assert sorted(reads) == [12] + [25] * 9
    assert sorted(key for batch in batches for key in batch) == [*KEYS]
    assert [key for batch in batches for key in batch] != [*KEYS]
    whole = list(batched(source, order, 25, drop_remainder=True, collate=sum))
    assert whole == list(map(sum, batches[:9]))
    with pytest.raises(InvalidArgument):
        batched(source, order, 0)


def test_threads_read_the_same(source: Source[int]) -> None:
    positions = np.random.default_rng(1).integers(0, len(source), 1000).tolist()
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(source.__getitem__, positions)) == KEYS.take(positions).tolist()
    shuffled = grain.MapDataset.source(source).shuffle(seed=3).repeat(2)
    found = list(shuffled.to_iter_dataset(grain.ReadOptions(num_threads=16, prefetch_buffer_size=50)))
    assert sorted(found[: len(KEYS)]) == sorted(found[len(KEYS) :]) == [*KEYS]
    assert found[: len(KEYS)] != found[len(KEYS) :]


def test_processes_get_the_keys_with_the_source(source: Source[int]) -> None:
    for method in ("spawn", "fork"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as processes:
            assert processes.submit(source.__getitems__, [5, 230]).result() == [KEYS[5], KEYS[230]]


def test_iterators_resume_from_their_state(source: Source[int]) -> None:
    order = grain.MapDataset.range(len(source)).shuffle(seed=3)
    dataset = batched(source, order, 10).to_iter_dataset()
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    state = iterator.get_state()
    rest = list(iterator)
    resumed = iter(dataset)
    resumed.set_state(state)
    assert list(resumed) == rest
    assert len(rest) == 17


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_restores_a_checkpoint(numbers: Datas3t, workers: int) -> None:
    def loader() -> grain.DataLoader:
        source = Source(numbers, transform=key_of)  # a new one each time, as in another process
        sampler = grain.samplers.IndexSampler(len(source), shuffle=True, num_epochs=1, seed=3)
        return grain.DataLoader(data_source=source, sampler=sampler, worker_count=workers)

    iterator = iter(loader())
    first = [next(iterator) for _ in range(40)]
    state = iterator.get_state()
    rest = list(iterator)
    assert sorted(first + rest) == [*KEYS]
    resumed = iter(loader())
    resumed.set_state(state)
    assert list(resumed) == rest
    other = Source(numbers, keys=KEYS[:200], transform=key_of)
    sampler = grain.samplers.IndexSampler(len(KEYS), shuffle=True, num_epochs=1, seed=3)
    with pytest.raises(ValueError, match="source"):
        iter(grain.DataLoader(data_source=other, sampler=sampler, worker_count=workers)).set_state(state)


def test_the_code_of_the_page_runs(uploaders: "Callable[[], Uploader]") -> None:
    uploader = uploaders()
    contents = [b'{"value": %d}' % value for value in range(30)]
    upload(uploader.client, uploader.name, uploader.folder / "page.tar", "json", contents)
    learned: list[Any] = []
    known = run("grain.md", {"client": uploader.client, "learn": learned.append}, {'"photos")': f'"{uploader.name}")'})
    assert sorted(each["value"] for each in learned[:60]) == sorted([*range(30)] * 2)
    assert sorted(each["value"] for samples in learned[60:] for each in samples) == [*range(30)]
    assert [known["first"], known["second"]] == learned[60:62]
