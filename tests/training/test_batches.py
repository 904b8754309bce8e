"""Batches: global batches that are the same for each number of ranks, and resumption at every step."""

import json
import pickle
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.client import FailedPrecondition, InvalidArgument, KeySet
from datas3t.training import Batches

SHUFFLES = st.sampled_from(["global", "window", "none"])
UNEVEN = st.sampled_from(["drop", "pad", "keep"])
KEYS = KeySet.of([(10, 59), (100, 139), (1000, 1012)])


def lists(batches: Batches) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def global_batches(ranks: list[Batches]) -> list[list[int]]:
    """Return what all ranks read together in each step of an epoch."""
    steps: list[list[int]] = []
    for batches in ranks:
        for step, batch in enumerate(lists(batches)):
            if step == len(steps):
                steps.append([])
            steps[step] += batch
    return steps


def ranks(keys: KeySet, size: int, world: int, **options: object) -> list[Batches]:
    return [Batches(keys, size, rank=rank, world_size=world, **options) for rank in range(world)]  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 60), size=st.integers(1, 7), world=st.integers(1, 5), shuffle=SHUFFLES, uneven=UNEVEN)
def test_each_key_is_read_once_an_epoch(count: int, size: int, world: int, shuffle: str, uneven: str) -> None:
    keys = KeySet(range(5, 5 + 2 * count, 2))
    batches = ranks(keys, size, world, shuffle=shuffle, uneven=uneven, block=4, window=3)
    for epoch in range(3):
        assert [each.epoch for each in batches] == [epoch] * world
        lengths = [len(each) for each in batches]
        steps = global_batches(batches)
        read = [key for step in steps for key in step]
        assert max(lengths) == len(steps)
        assert set(read) <= set(keys)
        if uneven == "drop":
            assert len(read) == len(set(read)) == count - count % (size * world)
            assert all(len(step) == size * world for step in steps)
        elif uneven == "keep":
            assert sorted(read) == list(keys)
            assert max(lengths) - min(lengths) <= 1
        else:
            assert set(read) == set(keys)
            assert all(len(step) == size * world for step in steps)
            assert len(read) - count < size * world
        if shuffle == "none" and uneven != "pad":
            assert read == sorted(read)


@settings(max_examples=20, deadline=None)
@given(shuffle=SHUFFLES, uneven=UNEVEN, epoch=st.integers(0, 5))
def test_global_batches_are_the_same_for_each_number_of_ranks(shuffle: str, uneven: str, epoch: int) -> None:
    def read(size: int, world: int) -> list[list[int]]:
        batches = ranks(KEYS, size, world, shuffle=shuffle, uneven=uneven, block=8, window=2)
        for each in batches:
            each.set_epoch(epoch)
        return global_batches(batches)

    alone = read(12, 1)
    for world in (2, 3, 4, 6, 12):
        assert read(12 // world, world) == alone


@settings(max_examples=25, deadline=None)
@given(
    shuffle=SHUFFLES,
    uneven=UNEVEN,
    world=st.sampled_from([1, 2, 3, 6]),
    other=st.sampled_from([1, 2, 3, 6]),
    used=st.integers(0, 40),
)
def test_a_run_continues_at_the_next_batch_on_any_number_of_ranks(
    shuffle: str, uneven: str, world: int, other: int, used: int
) -> None:
    options = {"shuffle": shuffle, "uneven": uneven, "block": 8, "window": 2, "seed": 3}

    def epochs(batches: list[Batches]) -> list[list[int]]:
        return [step for _ in range(3) for step in global_batches(batches)]

    uninterrupted = epochs(ranks(KEYS, 6, 1, **options))
    first = Batches(KEYS, 6 // world, world_size=world, **options)  # type: ignore[arg-type]
    stepped = 0
    while stepped < used:
        taken = list(islice(first, used - stepped))
        stepped += len(taken)
    state = json.loads(json.dumps(first.state_dict()))
    resumed = ranks(KEYS, 6 // other, other, **options)
    for each in resumed:
        each.load_state_dict(state)
        each.set_epoch(each.epoch)  # keeps the position
    assert epochs(resumed)[: len(uninterrupted) - used] == uninterrupted[used:]


@settings(max_examples=25, deadline=None)
@given(shuffle=SHUFFLES, size=st.integers(1, 9), other=st.integers(1, 9), used=st.integers(0, 20))
def test_another_global_batch_size_repeats_and_loses_no_key(shuffle: str, size: int, other: int, used: int) -> None:
    for uneven in ("drop", "keep"):
        first = Batches(KEYS, size, shuffle=shuffle, uneven=uneven)  # type: ignore[arg-type]
        read = [key for batch in islice(first, used) for key in batch.tolist()]
        second = Batches(KEYS, other, shuffle=shuffle, uneven=uneven)  # type: ignore[arg-type]
        second.load_state_dict(first.state_dict())
        if second.epoch == 0:
            read += [key for batch in second for key in batch.tolist()]
        assert len(read) == len(set(read))
        lost = len(KEYS) - len(read)
        assert lost < size + other if uneven == "drop" else lost == 0


@pytest.mark.parametrize("shuffle", ["global", "window", "none"])
def test_what_is_dropped_differs_by_epoch(shuffle: str) -> None:
    batches = Batches(KEYS, 10, shuffle=shuffle)  # type: ignore[arg-type]
    dropped = [KEYS - KeySet(np.concatenate(list(batches))) for _ in range(30)]
    assert {len(each) for each in dropped} == {3}
    assert len(set(dropped)) == 30
    assert len({key for each in dropped for key in each}) > 50


def test_workers_that_take_every_nth_step_have_all_steps() -> None:
    batches = Batches(KEYS, 5, seed=1)
    next(iter(batches))
    rest = pickle.loads(pickle.dumps(batches)).rest()
    workers = [
        [batches.take(rest, step).tolist() for step in range(worker, rest.steps_of(0), 3)] for worker in range(3)
    ]
    merged = [workers[step % 3][step // 3] for step in range(rest.steps)]
    assert merged == lists(batches)


def test_batches_that_are_taken_ahead_need_not_count() -> None:
    batches = Batches(KEYS, 5, seed=1)
    rest = batches.rest()
    iterator = iter(batches)
    taken = [next(iterator).tolist() for _ in range(6)]
    resumed = Batches(KEYS, 5, seed=1)
    resumed.load_state_dict(batches.state_dict(position=rest.after(2)))
    assert lists(resumed)[:4] == taken[2:]


def test_the_state_is_small() -> None:
    keys = KeySet.of([(0, 10**9 - 1)])
    batches = Batches(keys, 64, seed=2**64 - 1, shuffle="window", block=4096, window=1024, world_size=1024, rank=1023)
    batches.set_epoch(10**6)
    next(iter(batches))
    assert len(json.dumps(batches.state_dict(), separators=(",", ":"))) < 200
    assert len(pickle.dumps(batches)) < 2000


def test_keys_that_came_are_read_from_the_next_epoch_on() -> None:
    grown = KEYS | KeySet(range(5000, 5020))
    first = Batches(KEYS, 7, uneven="keep")
    read = [key for batch in islice(first, 5) for key in batch.tolist()]
    resumed = Batches(grown, 7, uneven="keep")
    with pytest.raises(FailedPrecondition, match="saved with 103 keys: 0 of them are gone, and 20 came") as raised:
        resumed.load_state_dict(first.state_dict())
    assert raised.value.metadata == {"came": "20", "went": "0"}
    resumed.load_state_dict(first.state_dict(), on_change="continue")
    rest = [key for batch in resumed for key in batch.tolist()]
    assert rest == [key for batch in first for key in batch.tolist()]
    assert sorted(read + rest) == list(KEYS)
    assert sorted(key for batch in resumed for key in batch.tolist()) == list(grown)


@settings(max_examples=25, deadline=None)
@given(
    shuffle=SHUFFLES,
    gone=st.sets(st.sampled_from(list(KEYS)), max_size=90),
    came=st.sets(st.integers(0, 200), max_size=20),
    gone_later=st.sets(st.sampled_from(list(KEYS)), max_size=30),
    used=st.integers(1, 12),
)
def test_an_epoch_is_finished_without_the_keys_that_are_gone(
    shuffle: str, gone: set[int], came: set[int], gone_later: set[int], used: int
) -> None:
    options = {"shuffle": shuffle, "uneven": "keep", "block": 4, "window": 3}
    first = Batches(KEYS, 7, **options)  # type: ignore[arg-type]
    read = [key for batch in islice(first, used) for key in batch.tolist()]
    second_keys = (KEYS - KeySet(gone)) | (KeySet(came) - KEYS)
    second = Batches(second_keys, 5, **options)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict(), on_change="continue", before=KEYS)
    uninterrupted = pickle.loads(pickle.dumps(second))
    expected = sorted(set(KEYS) - set(read) - gone)
    assert sorted(key for batch in uninterrupted for key in batch.tolist()) == expected

    now_read = [key for batch in islice(second, 2) for key in batch.tolist()]
    state = json.loads(json.dumps(second.state_dict()))
    again = Batches(second_keys, 5, **options)  # type: ignore[arg-type]
    again.load_state_dict(state)  # the same keys as before: no need to say it again
    assert sorted(now_read + [key for batch in again for key in batch.tolist()]) == expected
    assert sorted(key for batch in again for key in batch.tolist()) == list(second_keys)

    third_keys = second_keys - KeySet(gone_later)
    third = Batches(third_keys, 4, **options)  # type: ignore[arg-type]
    third.load_state_dict(state, on_change="continue", before=KEYS)
    rest = [key for batch in third for key in batch.tolist()]
    assert sorted(rest) == sorted(set(expected) - set(now_read) - gone_later)


def test_an_unknown_earlier_set_is_an_error_unless_no_sample_was_read() -> None:
    first = Batches(KEYS, 7)
    fewer = Batches(KEYS - KeySet([20]), 7)
    fewer.load_state_dict(first.state_dict(), on_change="continue")
    assert len(lists(fewer)) == 14
    next(iter(first))
    with pytest.raises(FailedPrecondition, match="103 then and 102 now; pass them as `before`"):
        fewer.load_state_dict(first.state_dict(), on_change="continue")


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"version": 1},
        [],
        None,
        {"version": 2, "keys": "", "order": {"length": 1}, "epoch": 0, "position": 0},
        {"version": 1, "keys": "", "order": {"length": 1}, "epoch": 0, "position": 2},
        {"version": 1, "keys": "", "order": {"length": 1}, "epoch": -1, "position": 0},
        {"version": 1, "keys": "", "order": {"length": 1}, "epoch": 0.5, "position": 0},
        {"version": 1, "keys": "", "order": {"length": 1, "seed": 1}, "epoch": 0, "position": 0},
        {"version": 1, "keys": "", "order": {"length": 1, "shuffle": "none"}, "epoch": 0, "position": 0},
    ],
)
def test_what_is_no_state_of_this_run_is_refused(state: object) -> None:
    with pytest.raises(InvalidArgument):
        Batches(KEYS, 7).load_state_dict(state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"rank": 1}, {"rank": -1}, {"world_size": 0}, {"uneven": "all"}, {"shuffle": 1}, {"seed": -1}],
)
def test_what_is_out_of_range_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Batches(KEYS, **{"batch_size": 7, **options})  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    batches = Batches(KEYS, np.int32(7), seed=np.uint64(3), rank=np.int8(0), world_size=np.int64(1))  # type: ignore[arg-type]
    batches.set_epoch(np.int64(2))  # type: ignore[arg-type]
    next(iter(batches))
    assert json.loads(json.dumps(batches.state_dict())) == batches.state_dict()
