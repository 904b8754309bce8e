"""datas3t.torch.Stream: each sample once, whoever reads it, mixed in windows, resumed at any batch."""

import itertools
import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from datas3t.client import Datas3t, FailedPrecondition, InvalidArgument, KeySet
from datas3t.torch import Loader, Stream
from tests.frameworks.datasets import KEYS, Uploader, key_in

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")
stateful = pytest.importorskip("torchdata.stateful_dataloader")

SMALL = {"block": 5, "window": 6, "seed": 7}  # eight windows of 30 samples


def key_of(sample: Any) -> int:
    return key_in(sample.content)


def as_list(samples: list[int]) -> list[int]:
    return samples


def stream(numbers: Datas3t, **options: Any) -> Stream[int]:
    return Stream(numbers, transform=key_of, **{**SMALL, "uneven": "keep", **options})


def loader(numbers: Datas3t, batch: int = 10, workers: int = 0, *, persistent: bool = False, **options: Any) -> Any:
    return Loader(
        stream(numbers, **options), batch, num_workers=workers, persistent_workers=persistent, collate_fn=as_list
    )


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, False), (2, False), (2, True)])
def test_each_key_once_in_two_epochs(numbers: Datas3t, workers: int, persistent: bool) -> None:
    loaded = loader(numbers, workers=workers, persistent=persistent)
    epochs = []
    for epoch in range(2):
        assert loaded.epoch == epoch
        batches = list(loaded)
        assert len(batches) == len(loaded)
        epochs.append([*itertools.chain(*batches)])
        assert sorted(epochs[-1]) == list(KEYS)
    assert epochs[0] != epochs[1] != sorted(epochs[1])
    again = loader(numbers, workers=workers)
    again.set_epoch(1)
    assert [*itertools.chain(*again)] == epochs[1]


def test_ranks_and_workers_read_equal_shares(numbers: Datas3t) -> None:
    for uneven, count in (("keep", 237), ("drop", 232)):
        shares = []
        for rank in range(2):
            each = stream(numbers, rank=rank, world_size=2, uneven=uneven)
            shares += [[*each.samples(0, each.share((), 4 * rank + worker, 8))] for worker in range(4)]
        keys = [*itertools.chain(*shares)]
        assert len({*keys}) == len(keys) == count
        assert {*map(len, shares)} <= ({29, 30} if uneven == "keep" else {29})


def test_samples_are_mixed_in_windows_of_blocks(numbers: Datas3t) -> None:
    keys = [*itertools.chain(*loader(numbers))]
    first = sorted(KEYS.positions(keys[:30]).tolist())
    blocks = [first[at : at + 5] for at in range(0, 30, 5)]
    assert all(block == list(range(block[0], block[0] + 5)) for block in blocks if 237 - 2 not in block)
    assert keys[:30] != sorted(keys[:30])


def test_a_state_at_every_batch(numbers: Datas3t) -> None:
    for workers in (0, 2):
        whole = list(loader(numbers, workers=workers))
        first = loader(numbers, workers=workers)
        states = []
        for _batch in first:
            states.append(json.dumps(first.state_dict(), separators=(",", ":")))
        for done, state in itertools.islice(enumerate(states, 1), 0, None, 3):
            assert len(state) < 200
            resumed = loader(numbers, workers=workers)
            resumed.load_state_dict(json.loads(state))
            resumed.set_epoch(0)
            rest = [*itertools.chain(*resumed)]
            assert sorted([*itertools.chain(*whole[:done]), *rest]) == list(KEYS)


def run_some(numbers: Datas3t, world_size: int, workers: int, steps: int, state: Any) -> tuple[list[int], Any]:
    """Have all ranks read some batches from a state on; return what they have read, and the state afterwards."""
    seen: list[int] = []
    states = []
    for rank in range(world_size):
        loaded = loader(numbers, 4, workers, rank=rank, world_size=world_size)
        if state is not None:
            loaded.load_state_dict(state)
        seen += itertools.chain(*itertools.islice(loaded, steps))
        states.append(json.loads(json.dumps(loaded.state_dict())))
    assert all(each == states[0] for each in states)
    return seen, states[0]


def test_going_on_with_other_numbers_of_ranks_and_workers(numbers: Datas3t) -> None:
    source = random.Random(3)
    for _ in range(4):
        seen: list[int] = []
        state = None
        for _stage in range(2):
            some, state = run_some(
                numbers, source.choice([1, 2, 3]), source.choice([0, 2]), source.randrange(1, 9), state
            )
            seen += some
        rest, _ = run_some(numbers, 1, source.choice([0, 2]), 1000, state)
        assert sorted(seen + rest) == list(KEYS)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_early(numbers: Datas3t, persistent: bool) -> None:
    loaded = loader(numbers, workers=2, persistent=persistent)
    fresh = loader(numbers, workers=2)
    epochs = [list(fresh) for _ in range(3)]
    assert [*itertools.islice(loaded, 3)] == epochs[0][:3]
    state = loaded.state_dict()
    assert list(loaded) == epochs[1]
    assert [*itertools.islice(loaded, 3)] == epochs[2][:3]
    loaded.load_state_dict(state)  # which workers that persist do not know of
    assert sorted([*itertools.chain(*epochs[0][:3]), *itertools.chain(*loaded)]) == list(KEYS)
    assert list(loaded) == epochs[1]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loader(numbers: Datas3t, workers: int) -> None:
    def make() -> Any:
        return stateful.StatefulDataLoader(stream(numbers), batch_size=10, num_workers=workers, collate_fn=as_list)

    whole = list(make())
    assert sorted(itertools.chain(*whole)) == list(KEYS)
    for steps in (1, 7, 20):
        first = make()
        assert [*itertools.islice(first, steps)] == whole[:steps]
        resumed = make()
        resumed.load_state_dict(first.state_dict())
        assert list(resumed) == whole[steps:]


def test_what_a_state_does_not_fit(numbers: Datas3t) -> None:
    loaded = loader(numbers)
    next(iter(loaded))
    state = loaded.state_dict()
    others: list[tuple[dict[str, Any], str]] = [({"seed": 8}, "seed=7"), ({"window": 3}, "window=6")]
    for options, message in [*others, ({"shuffle": "none"}, "shuffle=")]:
        with pytest.raises(InvalidArgument, match=message):
            loader(numbers, **options).load_state_dict(state)
    with pytest.raises(FailedPrecondition, match="other keys, 237 then and 3 now"):
        loader(numbers, keys=KeySet([0, 1, 2])).load_state_dict(state)
    with pytest.raises(InvalidArgument, match="not the state of a Stream"):
        loader(numbers).load_state_dict({"position": 3})
    with pytest.raises(InvalidArgument, match="only with the keys of its run"):
        loader(numbers).load_state_dict(state, on_change="continue")
    iterator = iter(stream(numbers, rank=0, world_size=2))
    with pytest.raises(InvalidArgument, match=r"reader \[0, 1\], and this one is \[0, 2\]"):
        iterator.load_state_dict({**state, "reader": [0, 1], "read": 3})


def test_wrong_arguments(numbers: Datas3t) -> None:
    for options, message in [
        ({"shuffle": "global"}, "Loader shuffles globally"),
        ({"uneven": "pad"}, "uneven must be"),
        ({"memory": 0}, "memory must be"),
        ({"rank": 1}, "both rank and world_size"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            Stream(numbers, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="arguments of the Stream"):
        Loader(Stream(numbers), 4, seed=3)


def test_the_order_of_the_keys(numbers: Datas3t) -> None:
    assert [*itertools.chain(*loader(numbers, shuffle="none"))] == list(KEYS)


def test_several_datas3ts(numbers: Datas3t, more_numbers: Datas3t) -> None:
    joined: Stream[Any] = Stream({"image": numbers, "label": more_numbers}, block=4, window=3)
    samples = list(joined)
    assert sorted(sample["key"] for sample in samples) == list(range(40, 100))
    assert all(key_in(sample["image"].content) == sample["label"].key == sample["key"] for sample in samples)


def test_a_window_has_the_memory_that_was_given(uploaders: Callable[[], Uploader]) -> None:
    uploader = uploaders()
    uploader.upload(0, 399, size=50_000)
    size = 50_025
    big = Stream(uploader.handle, memory=20 * size, window=5)
    assert (big.order.block, big.order.window) == (3, 5)
    tracemalloc.start()
    count = 0
    for sample in big:
        count += len(sample.content) > 50_000
        if count == 100:
            tracemalloc.reset_peak()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 400
    assert peak < 400 * size / 2  # the window, the request that is read ahead, and little else
