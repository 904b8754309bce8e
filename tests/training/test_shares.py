"""Shares: what readers have read, and what is left, is each place of an epoch exactly once."""

from hypothesis import given
from hypothesis import strategies as st

from datas3t.training import shares
from datas3t.training.shares import Interval, Stage

STAGES = st.builds(Stage, st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(0, 12))


def places(intervals: list[Interval]) -> list[int]:
    return [place for start, stop in intervals for place in range(start, stop)]


@given(st.integers(0, 200), st.lists(STAGES, max_size=4), st.sampled_from(["drop", "keep"]), st.integers(1, 9))
def test_each_place_once(length: int, stages: list[Stage], uneven: str, readers: int) -> None:
    read: list[int] = []
    for number, stage in enumerate(stages):
        left = shares.left(length, stages[:number], uneven)  # type: ignore[arg-type]
        assert sorted(read + places(left)) == list(range(length))
        parts, _ = shares.cut(left, stage.readers, uneven)  # type: ignore[arg-type]
        for reader, part in enumerate(parts):
            read += places(part)[: stage.read(reader)]
    left = shares.left(length, stages, uneven)  # type: ignore[arg-type]
    assert sorted(read + places(left)) == list(range(length))
    assert places(left) == sorted(places(left))

    parts, over = shares.cut(left, readers, uneven)  # type: ignore[arg-type]
    assert [place for part in parts for place in places(part)] + places(over) == places(left)
    sizes = [shares.count(part) for part in parts]
    assert max(sizes) - min(sizes) <= (uneven == "keep")
    assert sizes == sorted(sizes, reverse=True)
    assert len(places(over)) < readers
    assert uneven == "drop" or not over


def test_a_rank_takes_the_batches_of_its_workers_in_turn() -> None:
    stage = Stage(world_size=2, workers=3, batch_size=4, steps=5)
    assert [stage.read(reader) for reader in range(6)] == [8, 8, 4, 8, 8, 4]
