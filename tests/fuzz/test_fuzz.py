"""A few seconds of each fuzz loop, and tests that the loops detect errors."""

import random
import re

import pytest

from datas3t.archive import header
from tests.fuzz import archives
from tests.fuzz.loop import FindingError, Note, fuzz, targets

SEED = 1


@pytest.mark.parametrize("name", targets())
def test_a_few_seconds_find_nothing(name: str) -> None:
    with targets()[name]() as attempt:
        assert fuzz(name, attempt, SEED, seconds=2) > 1


def test_a_finding_has_the_seed_and_the_input_and_is_found_again() -> None:
    def attempt(source: random.Random, note: Note) -> None:
        number = source.randrange(20)
        note(number)
        assert number != 7, "seven"

    with pytest.raises(FindingError, match=r"^anything, seed 5, case \d+: AssertionError: seven") as found:
        fuzz("anything", attempt, 5, seconds=60)
    case = re.search(r"--seed 5 --case (\d+)", str(found.value))
    assert case
    assert str(found.value).endswith("\ninput:\n7")
    with pytest.raises(FindingError, match="seven"):
        fuzz("anything", attempt, 5, 0, int(case[1]))


def test_a_reader_that_ignores_a_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pax_records = header.pax_records

    def without_sizes(payload: bytes, position: int) -> dict[bytes, bytes]:
        return {key: value for key, value in pax_records(payload, position).items() if key != b"path"}

    monkeypatch.setattr(header, "pax_records", without_sizes)
    with archives.target() as attempt, pytest.raises(FindingError, match=r"tarfile reads|tarfile finds|bulk reader"):
        fuzz("archives", attempt, SEED, seconds=60)
