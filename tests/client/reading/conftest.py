"""An HTTP server with archives, for tests that read without a datas3t server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.reading.archive_host import ArchiveHost, archive_host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ArchiveHost]:
    """A host without archives, whose handles share an empty cache of indices."""
    with archive_host(tmp_path / "cache") as running:
        yield running
