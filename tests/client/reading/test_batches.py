"""Batches: the same contents as by a `get_many` for each, but several are read together."""

from collections.abc import Iterator

import pytest

from datas3t.client import DatapointNotFound, InvalidArgument
from datas3t.client._reading.costs import Costs
from tests.client.archives import tar
from tests.client.reading.archive_host import ArchiveHost

CONTENTS = {key: b"%d" % key * (key % 7) for key in range(60)}


@pytest.mark.parametrize("ahead", [0, 1, 2, 100])
def test_each_batch_has_the_contents_of_its_keys_in_their_order(host: ArchiveHost, ahead: int) -> None:
    handle = host.handle(
        tar({key: CONTENTS[key] for key in range(30)}), tar({key: CONTENTS[key] for key in range(30, 60)})
    )
    batches = [[5, 50, 5], [], [59], [1, 2, 3], list(range(59, -1, -1)), [7], [8]]
    found = list(handle.batches(map(iter, batches), ahead=ahead))
    assert found == [[CONTENTS[key] for key in batch] for batch in batches]
    assert list(handle.batches([], ahead=ahead)) == []


def test_batches_are_planned_together_and_taken_as_they_are_needed(
    host: ArchiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "gap", 512)
    handle, taken = host.handle(tar(CONTENTS)), list[int]()

    def keys() -> Iterator[list[int]]:
        for first in range(0, 60, 4):
            taken.append(first)
            yield [first, first + 1]
            yield [first + 2, first + 3]

    handle.get(0)
    before = len(host.server.requests)
    batches = handle.batches(keys(), ahead=3)
    assert next(batches) == [CONTENTS[0], CONTENTS[1]]
    assert taken == [0, 4]
    assert len(host.server.requests) - before == 1, "eight neighbours by one request"
    assert len(list(batches)) == 29
    assert len(host.server.requests) - before == 8


def test_a_missing_key_is_an_error_when_its_batch_is_due(host: ArchiveHost) -> None:
    handle = host.handle(tar(CONTENTS))
    batches = handle.batches([[1], [2], [3, 60], [4]], ahead=3)
    assert [next(batches), next(batches)] == [[CONTENTS[1]], [CONTENTS[2]]]
    with pytest.raises(DatapointNotFound, match="no datapoint 60"):
        next(batches)


@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
def test_batches_before_an_error_of_the_caller_are_read(host: ArchiveHost, ahead: int) -> None:
    def keys() -> Iterator[list[int]]:
        yield [1]
        yield [2, 3]
        raise OSError("the list of keys cannot be read")

    batches = host.handle(tar(CONTENTS)).batches(keys(), ahead=ahead)
    assert [next(batches), next(batches)] == [[CONTENTS[1]], [CONTENTS[2], CONTENTS[3]]]
    with pytest.raises(OSError, match="the list of keys"):
        next(batches)


def test_ahead_must_not_be_negative(host: ArchiveHost) -> None:
    with pytest.raises(InvalidArgument, match="ahead must be at least 0"):
        host.handle(tar(CONTENTS)).batches([], ahead=-1)
