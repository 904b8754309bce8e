"""Which files a compaction rewrites: never so that an older row comes before a newer one."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.client._tables import compacting


@dataclass(frozen=True)
class Listed:
    id: int
    first: int
    last: int
    size: int
    counter: int
    etag: str = ""
    location: str = ""


def plan(*files: tuple[int, int, int]) -> list[list[int]]:
    """Return the counters of the groups; files are given by first key, last key and size, the oldest first."""
    listed = [Listed(counter, first, last, size, counter) for counter, (first, last, size) in enumerate(files, 1)]
    return [[file.counter for file in group] for group in compacting.plan(listed, target_size=100, max_size=1000)]


def test_small_neighbours_become_one_up_to_the_target() -> None:
    assert plan((1, 10, 30), (11, 20, 30), (30, 40, 30), (50, 60, 30)) == [[1, 2, 3]]
    assert plan((1, 10, 120), (11, 20, 30), (30, 40, 30)) == [[2, 3]]
    assert plan((1, 10, 30)) == []
    assert plan((1, 10, 30), (11, 20, 120), (21, 30, 30)) == []


def test_a_large_neighbour_is_not_written_anew_for_a_little_more() -> None:
    assert plan((1, 10, 90), (11, 20, 1), (21, 30, 1), (31, 40, 1)) == [[2, 3, 4]]
    assert plan((1, 10, 1), (11, 20, 90), (21, 30, 1)) == []
    assert plan((1, 10, 70), (11, 20, 10), (21, 30, 8)) == [[1, 2, 3]]


def test_rows_that_are_appended_one_by_one_are_written_a_few_times() -> None:
    files: list[Listed] = []
    written = 0
    for number in range(1, 2001):
        files.append(Listed(number, number, number, 1, number))
        for group in compacting.plan(files, target_size=10_000, max_size=10_000):
            size = sum(file.size for file in group)
            written += size
            counter = max(file.counter for file in files)
            merged = Listed(-counter, min(f.first for f in group), max(f.last for f in group), size, counter)
            files = [*(file for file in files if file not in group), merged]
    assert len(files) < 12
    assert written < 12 * 2000


def test_files_that_overlap_become_one() -> None:
    assert plan((1, 100, 300), (1, 50, 50), (60, 80, 50)) == [[3, 2, 1]]


def test_a_large_file_is_left_while_the_newer_ones_are_small() -> None:
    assert plan((1, 100, 500), (1, 50, 20)) == []
    assert plan((1, 100, 500), (1, 50, 20), (40, 60, 30)) == [[3, 2]]
    assert plan((1, 100, 900), (1, 100, 300)) == []  # too large together
    assert plan((1, 100, 300), (1, 100, 300), (1, 100, 300), (1, 100, 1)) == [[4, 3, 2, 1]]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(1, 400)), max_size=12))
def test_no_group_hides_rows_of_a_newer_file(drawn: list[tuple[int, int, int]]) -> None:
    files = [Listed(n, first, first + count, size, n) for n, (first, count, size) in enumerate(drawn, 1)]
    groups = compacting.plan(files, target_size=100, max_size=1000)
    assert len({file.id for group in groups for file in group}) == sum(map(len, groups))
    for group in groups:
        assert len(group) > 1
        first, last = min(file.first for file in group), max(file.last for file in group)
        oldest = min(file.counter for file in group)
        outside = [file for file in files if file not in group and file.first <= last and file.last >= first]
        assert all(file.counter < oldest for file in outside)
