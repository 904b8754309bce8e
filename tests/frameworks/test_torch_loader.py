"""datas3t.torch.Loader and BatchSampler: each key once, the same batches everywhere, resumed at any batch."""

import itertools
import json
import multiprocessing
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest

from datas3t.client import Datas3t, FailedPrecondition, InvalidArgument, KeySet
from datas3t.torch import BatchSampler, Datapoints, Loader
from datas3t.training import Batches
from tests.frameworks.datasets import KEYS, key_in

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")  # on a machine of two cores


def key_of(sample: Any) -> int:
    return key_in(sample.content)


def as_list(samples: list[int]) -> list[int]:
    return samples


@pytest.fixture
def dataset(numbers: Datas3t) -> Datapoints[int]:
    return Datapoints(numbers, transform=key_of)


def loader(dataset: Datapoints[int], batch: int = 10, **options: Any) -> Loader[list[int]]:
    return Loader(dataset, batch, **{"seed": 7, "collate_fn": as_list, **options})


def expected(epoch: int, batch: int = 10, **options: Any) -> list[list[int]]:
    """Return the batches of one rank in an epoch, by the layer below."""
    batches = Batches(KEYS, batch, **{"seed": 7, **options})
    batches.set_epoch(epoch)
    return [batches.take(batches.rest(), step).tolist() for step in range(len(batches))]


@pytest.mark.parametrize("uneven", ["keep", "drop", "pad"])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True), (4, False), (4, True)])
def test_each_key_once_in_two_epochs(dataset: Datapoints[int], workers: int, persistent: bool, uneven: Any) -> None:
    check_two_epochs(loader(dataset, uneven=uneven, num_workers=workers, persistent_workers=persistent), uneven)


@pytest.mark.timeout(400)  # each worker imports PyTorch
@pytest.mark.parametrize(
    ("method", "workers", "persistent"), [("spawn", 2, True), ("forkserver", 2, False), ("forkserver", 4, True)]
)
def test_each_key_once_with_workers_of_other_kinds(
    dataset: Datapoints[int], method: str, workers: int, persistent: bool
) -> None:
    multiprocessing.set_forkserver_preload(["datas3t.torch", "tests.frameworks.test_torch_loader"])
    options = {"multiprocessing_context": method, "num_workers": workers, "persistent_workers": persistent}
    check_two_epochs(loader(dataset, 30, uneven="keep", **options), "keep", 30)


def check_two_epochs(loaded: Loader[list[int]], uneven: str, batch: int = 10) -> None:
    for epoch in range(2):
        assert loaded.epoch == epoch
        batches = list(loaded)
        assert batches == expected(epoch, batch, uneven=uneven)
        assert len(batches) == len(loaded)
        keys = [key for each in batches for key in each]
        assert len(keys) == {"keep": 237, "drop": 230, "pad": 240}[uneven]
        assert len({*keys}) == min(len(keys), 237)


def test_the_global_batches_are_the_same_for_each_number_of_ranks(dataset: Datapoints[int]) -> None:
    whole = expected(0, 24)
    for world_size in (2, 3, 4):
        ranks = [
            list(loader(dataset, 24 // world_size, rank=rank, world_size=world_size, num_workers=rank % 3))
            for rank in range(world_size)
        ]
        assert [[*itertools.chain(*parts)] for parts in zip(*ranks, strict=True)] == whole


def test_resuming_at_every_batch(dataset: Datapoints[int]) -> None:
    batches = expected(0, 40, uneven="keep") + expected(1, 40, uneven="keep")
    first = loader(dataset, 40, uneven="keep", num_workers=2)
    states = [json.dumps(first.state_dict(), separators=(",", ":")) for _ in range(2) for _batch in first]
    assert len(states) == len(batches) == 12
    for done, state in enumerate(states, 1):
        assert len(state) < 200
        resumed = loader(dataset, 40, uneven="keep")
        resumed.load_state_dict(json.loads(state))
        resumed.set_epoch(resumed.epoch)
        assert list(resumed) == batches[done : 6 * (1 + (done > 6))]


def check_resumed(make: Callable[..., Any], source: random.Random) -> None:
    """Stop a run on some ranks at a random step, and check that others have the rest of its batches."""
    before, after, steps = source.choice([1, 2, 3, 4]), source.choice([1, 2, 3, 4]), source.randrange(10)
    whole = expected(0, 24, uneven="keep")
    ranks = [make(24 // before, rank=rank, world_size=before) for rank in range(before)]
    seen = [[*itertools.islice(each, steps)] for each in ranks]
    states = [each.state_dict() for each in ranks]
    assert all(state == states[0] for state in states)
    assert [[*itertools.chain(*parts)] for parts in zip(*seen, strict=True)] == whole[:steps]
    others = [make(24 // after, rank=rank, world_size=after) for rank in range(after)]
    for each in others:
        each.load_state_dict(states[0])
    rest = itertools.zip_longest(*map(list, others), fillvalue=[])
    assert [[*itertools.chain(*parts)] for parts in rest] == whole[steps:]


def test_resuming_a_sampler_at_random_steps_on_other_numbers_of_ranks(dataset: Datapoints[int]) -> None:
    source = random.Random(1)
    for _ in range(50):
        check_resumed(partial(BatchSampler, dataset, seed=7, uneven="keep"), source)


def test_resuming_a_loader_at_random_steps_on_other_numbers_of_workers_and_ranks(dataset: Datapoints[int]) -> None:
    source = random.Random(2)
    for _ in range(6):
        check_resumed(
            lambda *sizes, **places: loader(
                dataset, *sizes, uneven="keep", num_workers=source.choice([0, 2]), **places
            ),
            source,
        )


def test_another_global_batch_reads_each_key_once(dataset: Datapoints[int]) -> None:
    first = loader(dataset, 10, uneven="keep")
    seen = [*itertools.chain(*itertools.islice(first, 5))]
    resumed = loader(dataset, 7, uneven="keep", num_workers=2)
    resumed.load_state_dict(first.state_dict())
    assert sorted([*seen, *itertools.chain(*resumed)]) == list(KEYS)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_early(dataset: Datapoints[int], workers: int, persistent: bool) -> None:
    loaded = loader(dataset, num_workers=workers, persistent_workers=persistent and workers > 0)
    assert [*itertools.islice(loaded, 3)] == expected(0)[:3]
    assert loaded.state_dict()["position"] == 30
    assert [*itertools.islice(loaded, 3)] == expected(1)[:3]  # as every loader: another order
    loaded.set_epoch(1)
    assert [*itertools.islice(loaded, 3)] == expected(1)[:3]
    loaded.load_state_dict(loaded.state_dict())
    assert list(loaded) == expected(1)[3:]
    assert list(loaded) == expected(2)


def test_the_epoch_that_was_loaded_keeps_its_position(dataset: Datapoints[int]) -> None:
    first = loader(dataset)
    first.set_epoch(3)
    assert [*itertools.islice(first, 4)] == expected(3)[:4]
    resumed = loader(dataset)
    resumed.load_state_dict(first.state_dict())
    for epoch in range(resumed.epoch, 5):
        resumed.set_epoch(epoch)
        assert list(resumed) == expected(epoch)[4 if epoch == 3 else 0 :]
    assert resumed.epoch == 5


def test_keys_that_came_and_went(numbers: Datas3t) -> None:
    few = Datapoints(numbers, keys=KEYS[:200], transform=key_of)
    first = loader(few)
    seen = [*itertools.chain(*itertools.islice(first, 5))]
    more = loader(Datapoints(numbers, transform=key_of), uneven="keep")
    with pytest.raises(FailedPrecondition, match="0 of them are gone, and 37 came"):
        more.load_state_dict(first.state_dict())
    more.load_state_dict(first.state_dict(), on_change="continue")
    assert sorted([*seen, *itertools.chain(*more)]) == list(KEYS[:200])
    assert sorted(itertools.chain(*more)) == list(KEYS)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sampler_in_a_loader_of_pytorch(dataset: Datapoints[int], workers: int) -> None:
    sampler = BatchSampler(dataset, 10, seed=7, uneven="keep")
    loaded = data.DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=as_list)
    for epoch in range(2):
        assert list(loaded) == expected(epoch, uneven="keep")
    assert [*itertools.islice(loaded, 2)] == expected(2)[:2]
    assert list(loaded) == expected(3, uneven="keep")


def test_the_rank_is_that_of_the_environment(dataset: Datapoints[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(loader(dataset)) == expected(0, rank=1, world_size=2)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InvalidArgument, match="must be numbers"):
        list(loader(dataset))


def test_wrong_arguments(dataset: Datapoints[int]) -> None:
    for options, message in [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"rank": 1}, "both rank and world_size"),
        ({"rank": 2, "world_size": 2}, "rank must be 0 to"),
        ({"uneven": "wrap"}, "uneven must be"),
        ({"shuffle": True}, "shuffle must be"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            Loader(dataset, **{"batch_size": 4, **options})  # type: ignore[arg-type, dict-item]
    with pytest.raises(InvalidArgument, match="reads Datapoints or a Stream"):
        Loader([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mutually exclusive"):
        Loader(dataset, 4, drop_last=True)
    with pytest.raises(InvalidArgument, match="not the state of a training run"):
        Loader(dataset, 4).load_state_dict({"position": 3})


def test_samples_that_are_missing_are_left_out_of_a_batch(numbers: Datas3t) -> None:
    batch: Any = next(iter(Loader(Datapoints(numbers), 4, shuffle="none")))
    assert batch.key.tolist() == [0, 1, 2, 3]
    assert [key_in(content) for content in batch.content] == [0, 1, 2, 3]
    sometimes = Datapoints(numbers, transform=lambda sample: None if sample.key % 2 else sample.key)
    assert next(iter(Loader(sometimes, 4, shuffle="none"))).tolist() == [0, 2]
    assert next(iter(Loader(Datapoints(numbers, transform=lambda _: None), 4))) == []


def test_a_billion_keys() -> None:
    keys = KeySet.of([(number * 2_000_000, number * 2_000_000 + 999_999) for number in range(1000)])
    memory, moment = psutil.Process().memory_info().rss, time.process_time()
    sampler = BatchSampler(keys, 256, seed=7, rank=3, world_size=8)
    sampler.set_epoch(123)
    batch = next(iter(sampler))
    assert time.process_time() - moment < 1
    assert psutil.Process().memory_info().rss - memory < 50 << 20
    assert len(sampler) == 10**9 // (256 * 8)
    assert len({*batch}) == 256
    assert all(key in keys for key in batch)
    assert len(json.dumps(sampler.state_dict(), separators=(",", ":"))) < 200


def test_an_error_in_a_worker_has_its_fields(numbers: Datas3t) -> None:
    dataset = Datapoints(numbers.at(KeySet([5000, 5001])), transform=key_of)
    for workers in (0, 1):
        with pytest.raises(KeyError, match=r"5000|5001") as caught:
            list(loader(dataset, 1, num_workers=workers, shuffle="none"))
        assert type(caught.value).__name__ == "DatapointNotFound"
