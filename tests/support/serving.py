"""A whole server inside the process of the tests, on a free port."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datas3t.server.app.server import Server
from datas3t.server.settings import Address, Settings

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def settings_for(services: "Services", database: str, folder: Path, **changes: Any) -> Settings:
    """Return settings for a server on this database, with its index cache in `folder`."""
    settings = Settings(
        db_url=database,
        encryption_key=services.encryption_key,
        cache_dir=folder / "cache",
        addr=Address("127.0.0.1", 0),
        drain=timedelta(seconds=10),
    )
    return replace(settings, **changes)


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """Yield a server that runs until the block ends."""
    server = Server(settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
