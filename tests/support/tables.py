"""Table files by calling the server's functions. The server reads no rows, so contents only look like Parquet."""

from collections.abc import Sequence

from datas3t.server import tables
from datas3t.server.tables import Presigned
from tests.support.uploads import Site, put


def parquet(size: int = 40) -> bytes:
    """Return bytes that begin and end as a Parquet file."""
    return b"PAR1" + bytes(size - 8) + b"PAR1"


def send_file(
    site: Site, first: int, last: int, *, table: str = "labels", data: bytes | None = None, replaces: Sequence[int] = ()
) -> int:
    """Start a table file and PUT it; return its id."""
    data = parquet() if data is None else data
    started = tables.start(site.resources, site.datas3t, table, first, last, len(data), replaces)
    put(started.put_url, data)
    return started.upload.id


def add_file(
    site: Site, first: int, last: int, *, table: str = "labels", data: bytes | None = None, replaces: Sequence[int] = ()
) -> int:
    """Start a table file, PUT it and complete it; return its id."""
    file_id = send_file(site, first, last, table=table, data=data, replaces=replaces)
    tables.complete(site.resources, file_id)
    return file_id


def files(site: Site, table: str = "labels", first: int | None = None, last: int | None = None) -> list[Presigned]:
    """Return all files of a table that may have rows of the span."""
    found, token, _ = tables.presign(site.resources, site.datas3t, table, first, last)
    assert token == ""
    return found


def ids(site: Site, table: str = "labels", first: int | None = None, last: int | None = None) -> list[int]:
    """Return the ids of these files, by counter."""
    return [each.file.id for each in files(site, table, first, last)]


def table_objects(site: Site) -> list[str]:
    """Return the keys of all objects of tables in the bucket."""
    return [key for key in site.objects() if "/tables/" in key]
