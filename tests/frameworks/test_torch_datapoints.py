"""datas3t.torch.Datapoints: by positions and keys, alone and in PyTorch's own loaders, samplers and subsets."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from datas3t.client import DatapointNotFound, Datas3t, InvalidArgument, KeySet
from datas3t.torch import Datapoints, Key
from datas3t.training import Joined
from tests.client.sites import Site
from tests.frameworks.datasets import KEYS, Uploader, content_of, key_in

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")


def only_key(sample) -> int:  # type: ignore[no-untyped-def]
    return key_in(sample.content)


def test_positions_keys_and_their_errors(numbers: Datas3t) -> None:
    dataset = Datapoints(numbers)
    assert len(dataset) == len(KEYS) == 237
    assert dataset[0].key == 0
    assert dataset[100].key == 150
    assert dataset[-1].key == 1036
    assert dataset[np.int64(101)].key == 151
    assert dataset[torch.tensor(101)].key == 151
    assert dataset[Key(1000)].content == content_of(1000)
    assert [each.key for each in dataset.__getitems__([3, Key(3), -1, Key(1000)])] == [3, 3, 1036, 1000]
    assert dataset.__getitems__([]) == []
    for index in (237, -238):
        with pytest.raises(IndexError, match="outside of a set of 237 keys"):
            dataset[index]
    with pytest.raises(DatapointNotFound) as caught:
        dataset[Key(100)]
    assert caught.value.key == 100
    with pytest.raises(TypeError):
        dataset[1.5]  # type: ignore[index]


def test_a_batch_is_one_read_of_each_datas3t(numbers: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[list[int]] = []
    read = Datas3t.datapoints

    def counted(self, keys, **options):  # type: ignore[no-untyped-def]
        reads.append(keys)
        return read(self, keys, **options)

    monkeypatch.setattr(Datas3t, "datapoints", counted)
    for batch in data.DataLoader(Datapoints(numbers, transform=only_key), batch_size=100):
        assert len(batch) == len(reads[-1])
    assert [len(keys) for keys in reads] == [100, 100, 37]


def test_the_keys_stay(site: Site, tmp_path: Path) -> None:
    uploader = Uploader(site.client, site.name, tmp_path)
    uploader.upload(0, 9)
    dataset = Datapoints(uploader.handle)
    uploader.upload(10, 19)
    assert len(dataset) == len(pickle.loads(pickle.dumps(dataset))) == 10
    assert Datapoints(uploader.handle).keys == KeySet.of([(0, 19)])
    with pytest.raises(DatapointNotFound, match="not among the keys"):
        dataset[Key(10)]


def test_some_keys_alone(numbers: Datas3t) -> None:
    dataset = Datapoints(numbers, keys=KeySet.of([(90, 99), (1000, 1001)]), transform=only_key)
    assert list(dataset) == [*range(90, 100), 1000, 1001]
    with pytest.raises(InvalidArgument, match="51 of the keys have no sample, 100 first"):
        Datapoints(numbers, keys=KeySet.of([(99, 151), (1036, 1036)]) | KeySet([1037]))


def test_an_empty_datas3t(site: Site) -> None:
    dataset = Datapoints(site.client.datas3t(site.name))
    assert len(dataset) == 0
    assert list(data.DataLoader(dataset, batch_size=4)) == []


def test_deleted_samples(site: Site, tmp_path: Path) -> None:
    uploader = Uploader(site.client, site.name, tmp_path)
    uploader.upload(0, 4)
    uploader.upload(5, 9)
    strict, lenient = Datapoints(uploader.handle), Datapoints(uploader.handle, missing="none", transform=only_key)
    site.client.delete_dataranges(site.name, 0, 4)
    assert lenient.__getitems__(range(10)) == [None] * 5 + [5, 6, 7, 8, 9]
    with pytest.raises(DatapointNotFound) as caught:
        strict.__getitems__([7, 3])
    assert caught.value.key == 3
    with pytest.raises(InvalidArgument, match="missing must be"):
        Datapoints(uploader.handle, missing="skip")  # type: ignore[call-overload]


def test_samples_of_several_datas3ts(numbers: Datas3t, more_numbers: Datas3t) -> None:
    dataset = Datapoints({"image": numbers, "label": more_numbers})
    assert len(dataset) == 60
    sample = dataset[0]
    assert (sample["key"], sample["image"].content, sample["label"].key) == (40, content_of(40), 40)
    left = Datapoints(Joined({"image": numbers, "label": more_numbers}, how="left"))
    assert len(left) == 237
    assert left[0]["label"] is None
    assert left[Key(41)]["label"].key == 41


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_and_samplers_of_pytorch(numbers: Datas3t, workers: int) -> None:
    dataset = Datapoints(numbers, transform=only_key)
    shuffled = data.DataLoader(dataset, batch_size=10, shuffle=True, num_workers=workers)
    assert sorted(key for batch in shuffled for key in batch.tolist()) == list(KEYS)
    one, other = data.random_split(dataset, [200, 37], torch.Generator().manual_seed(1))
    both = data.ConcatDataset([data.Subset(one, range(100)), other])
    keys = [key for batch in data.DataLoader(both, batch_size=8, num_workers=workers) for key in batch.tolist()]
    assert len({*keys}) == len(keys) == 137
    weights = data.WeightedRandomSampler([0.0] * 200 + [1.0] * 37, 50)
    keys = [
        key for batch in data.DataLoader(dataset, 8, sampler=weights, num_workers=workers) for key in batch.tolist()
    ]
    assert len(keys) == 50
    assert min(keys) >= 1000
