"""A front with fake servicers, for the tests that need no database."""

from collections.abc import Iterator

import pytest

from tests.support.front import RunningFront, running_front


@pytest.fixture
def front() -> Iterator[RunningFront]:
    with running_front() as running:
        yield running
