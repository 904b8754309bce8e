"""A front with servicers of its own, for what needs no database."""

from collections.abc import Iterator

import pytest

from tests.support.front import Running, running_front


@pytest.fixture
def front() -> Iterator[Running]:
    with running_front() as running:
        yield running
