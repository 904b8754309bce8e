"""A fixture for imports into an empty database."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from tests.support.uploads import Site


@pytest.fixture
def empty_site(services: "Services", site: "Site", migrated_template: str, tmp_path: Path) -> Iterator["Site"]:
    """The site's bucket with another server, whose database is empty."""
    from tests.support.importing import with_empty_database

    with with_empty_database(site, services, migrated_template, tmp_path) as other:
        yield other
