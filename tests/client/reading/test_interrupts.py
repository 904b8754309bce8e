"""An exception at a line under `get`, `get_many` and `scan` reaches the caller, and the next call works."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import datas3t.client._reading
import datas3t.transport
from datas3t.client.handle import Datas3t
from tests.client.archives import tar
from tests.client.reading.archive_host import ArchiveHost
from tests.support.interrupts import Injector, Interrupted, Place, places

CONTENTS = {key: b"%d " % key * (key * 37 % 300) for key in range(1, 31)}
ENGINE, READING = Path(datas3t.transport.__file__).parent, Path(datas3t.client._reading.__file__).parent

READS: dict[str, Callable[[Datas3t], object]] = {
    "get": lambda handle: {key: handle.get(key) for key in (1, 2, 25)},
    "get_many": lambda handle: dict(zip(CONTENTS, handle.get_many(CONTENTS), strict=True)),
    "scan": lambda handle: {each.key: each.content for each in handle.scan()},
}
EXPECTED = {"get": {key: CONTENTS[key] for key in (1, 2, 25)}, "get_many": CONTENTS, "scan": CONTENTS}


def some(passed: Iterable[Place]) -> list[Place]:
    """Return a hundred of the places by chance, the same ones each time, and at least one of each file."""
    every = list(passed)
    random.Random(7).shuffle(every)
    one_of_each = {place[0]: place for place in every}.values()
    return list(dict.fromkeys([*one_of_each, *every[:100]]))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("get", ENGINE), ("get", READING), ("get_many", ENGINE), ("get_many", READING), ("scan", READING)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_an_interrupted_read_is_followed_by_right_ones(host: ArchiveHost, name: str, folder: Path) -> None:
    archives = [tar({key: CONTENTS[key] for key in keys}) for keys in (range(1, 21), range(21, 31))]
    read, expected = READS[name], EXPECTED[name]
    raised = 0
    for place in some(places(folder, lambda: read(host.handle(*archives)))):
        handle = host.handle(*archives)
        try:
            with Injector(folder, place):
                assert read(handle) == expected, place
        except Interrupted:
            raised += 1
        assert read(handle) == expected, f"after {place}"
    assert raised > 50
