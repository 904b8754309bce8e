"""Datasets of Hugging Face: columns, shards for ranks and workers, states, random access by batches."""

import io
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch.utils.data
from datasets.distributed import split_dataset_by_node

from datas3t.client import Datas3t, InvalidArgument, KeySet
from datas3t.huggingface import iterable, rows
from tests.client.pages import run, upload
from tests.frameworks.datasets import KEYS, Uploader, content_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what Hugging Face caches within the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def png(value: int) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(out, "png")
    return out.getvalue()


@pytest.fixture(scope="session")
def images(uploaders: "Callable[[], Uploader]") -> Datas3t:
    uploader = uploaders()
    contents = [png(value) for value in range(30)]
    upload(uploader.client, uploader.name, uploader.folder / "png.tar", "png", contents, 10)
    return uploader.handle


def as_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch


def test_the_rows_have_every_datapoint(numbers: Datas3t) -> None:
    dataset = iterable(numbers)
    assert list(dataset.features) == ["key", "name", "content"]
    assert dataset.num_shards == 64
    assert [row["key"] for row in dataset] == [*KEYS]
    first = next(iter(iterable(numbers, keys=KEYS[200:])))
    assert first == {"key": KEYS[200], "name": f"{KEYS[200]:020d}.bin", "content": content_of(KEYS[200])}
    assert iterable(numbers, keys=KEYS[:5]).num_shards == 5
    with pytest.raises(InvalidArgument):
        iterable(numbers, shards=0)
    with pytest.raises(InvalidArgument):
        iterable(numbers, keys=KeySet())
    wanted = datasets.Features({"size": datasets.Value("int64"), "key": datasets.Value("int64")})
    assert next(iter(iterable(numbers, features=wanted))) == {"size": len(content_of(0)), "key": 0}


@pytest.mark.parametrize("make", [iterable, rows])
def test_the_extension_says_what_a_column_is(images: Datas3t, make: Any) -> None:
    first = next(iter(make(images)))
    assert np.array_equal(np.asarray(first["image"]), np.zeros((4, 6, 3)))
    raw = next(iter(make(images, decode=False)))
    assert raw["image"] == {"path": f"{10:020d}.png", "bytes": png(0)}


def test_a_column_can_be_cast(images: Datas3t) -> None:
    wanted = datasets.Features({"key": datasets.Value("int64"), "picture": datasets.Value("binary")})
    dataset = iterable(images, features=wanted).cast_column("picture", datasets.Image())
    assert np.asarray([*dataset][7]["picture"])[0, 0, 0] == 7


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_ranks_and_workers_share_the_shards(numbers: Datas3t, workers: int, world: int) -> None:
    dataset = iterable(numbers, shards=8).shuffle(seed=3, buffer_size=20)
    found: Counter[int] = Counter()
    for rank in range(world):
        part = split_dataset_by_node(dataset, rank=rank, world_size=world)
        loader = torch.utils.data.DataLoader(part, batch_size=10, num_workers=workers, collate_fn=as_list)
        found.update(row["key"] for batch in loader for row in batch)
    assert found == dict.fromkeys(KEYS, 1)


def test_a_stream_resumes_from_its_state(numbers: Datas3t) -> None:
    dataset = iterable(numbers, shards=8)
    for stop in (1, 30, 100, 236):
        iterator = iter(dataset)
        for _ in range(stop):
            next(iterator)
        state = dataset.state_dict()
        resumed = iterable(numbers, shards=8)
        resumed.load_state_dict(state)
        assert [row["key"] for row in resumed] == [*KEYS[stop:]]


def test_rows_are_read_by_batches(numbers: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = rows(numbers)
    assert len(dataset) == len(KEYS)
    assert dataset.data.column_names == ["key", "name", "size"]
    assert dataset.data.column("size").to_pylist() == [len(content_of(key)) for key in KEYS]
    reads: list[int] = []
    reader = dataset._format_kwargs["transform"]
    read = reader._samples.read

    def counted(keys: list[int]) -> list[Any]:
        reads.append(len(keys))
        return list(read(keys))

    monkeypatch.setattr(reader._samples, "read", counted)
    shuffled = dataset.shuffle(seed=3, keep_in_memory=True)
    loader = torch.utils.data.DataLoader(shuffled, batch_size=50, collate_fn=as_list)
    found = [row for batch in loader for row in batch]
    assert reads == [50, 50, 50, 50, 37]
    assert sorted(row["key"] for row in found) == [*KEYS]
    assert [row["key"] for row in found] != [*KEYS]
    assert all(row["content"] == content_of(row["key"]) for row in found)
    assert dataset[-1]["content"] == content_of(KEYS[-1])
    assert dataset[[7, 3]]["key"] == [KEYS[7], KEYS[3]]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_rows(numbers: Datas3t, method: str) -> None:
    loader = torch.utils.data.DataLoader(
        rows(numbers), batch_size=60, num_workers=2, collate_fn=as_list, multiprocessing_context=method
    )
    found = [row for batch in loader for row in batch]
    assert [row["key"] for row in found] == [*KEYS]
    assert all(row["content"] == content_of(row["key"]) for row in found)


def test_joined_datas3ts_are_columns(numbers: Datas3t, more_numbers: Datas3t) -> None:
    both = {"one": numbers, "other": more_numbers}
    dataset = iterable(both)
    assert list(dataset.features) == ["key", "one", "other"]
    expected = [{"key": key, "one": content_of(key), "other": content_of(key, 10)} for key in range(40, 100)]
    assert list(dataset) == expected
    found = rows(both)
    assert [*found] == expected
    assert pickle.loads(pickle.dumps(found))[5] == expected[5]


def test_a_dataset_is_written_as_parquet(numbers: Datas3t, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    iterable(numbers, shards=4).to_parquet(str(path))
    read = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert read["key"][:] == [*KEYS]
    assert read[100]["content"] == content_of(KEYS[100])


def test_the_code_of_the_page_runs(images: Datas3t, uploaders: "Callable[[], Uploader]", tmp_path: Path) -> None:
    uploader = uploaders()
    labels = [b"label %d" % value for value in range(30)]
    upload(uploader.client, uploader.name, uploader.folder / "labels.tar", "txt", labels, 10)
    learned: list[Any] = []
    replacing = {
        '"photos")': f'"{images.name}")',
        'datas3t("labels")': f'datas3t("{uploader.name}")',
        '"photos.parquet"': f'"{tmp_path}/photos.parquet"',
    }
    known = run("huggingface.md", {"client": uploader.client, "learn": learned.extend}, replacing)
    assert len(learned) == len(known["train"]) + 30
    assert np.asarray(known["photo"])[0, 0, 0] == 7
    assert np.asarray(next(iter(known["pictures"]))["picture"])[0, 0, 0] == 0
    assert known["pair"]["label"] == "label 3"
    assert (tmp_path / "photos.parquet").stat().st_size > 0
