"""The rows of a spool as files of tables: its paths for the table `files`, its columns for the writer's table."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from datas3t.client._files._writer import columns
from datas3t.client._files._writer.spool import Entry, Spool
from datas3t.client._tables import schemas
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.encoding import Encoder
from datas3t.client._tables.files_rows import files_rows
from datas3t.client._transfers.output_file import os_errors_as_file_error
from datas3t.client.errors import InvalidArgument

_AT_ONCE = 1 << 13  # rows of the table `files` that are made at once


class Rows(NamedTuple):
    """A file of a table, not uploaded yet, with the first and the last key that it has rows of."""

    table: str
    path: Path
    first: int
    last: int


def written(spool: Spool) -> list[Rows]:
    """Write the files of the rows of a spool beside it, replacing those of an earlier run.

    Raises:
        FileError: The disk is full.
        InvalidArgument: Parquet cannot store the rows.
    """
    files = []
    if any(entry.path is not None for entry in spool.entries()):
        files.append(_written(spool, schemas.FILES, schemas.FILES_SCHEMA, _of_paths(spool.entries())))
    schema = columns.united({entry.schema for entry in spool.entries() if entry.columns})
    if spool.table is not None and len(schema):
        whole = pa.schema([schemas.KEY_FIELD, *schema])
        rows = columns.tables((e.key, e.columns, e.schema) for e in spool.entries() if e.columns)
        files.append(_written(spool, spool.table, whole, (schemas.with_schema(table, whole) for table in rows)))
    return files


def _written(spool: Spool, table: str, schema: pa.Schema, rows: Iterable[pa.Table]) -> Rows:
    path = spool.path.with_name(f"{spool.path.stem}-{table}.parquet")
    try:
        with os_errors_as_file_error(path), path.open("w+b") as file:
            encoder = Encoder(file, schema)
            for each in rows:
                encoder.add(each)
            encoder.finish()
    except (pa.ArrowException, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument(f"the rows for table {table!r} in {spool.path} cannot be stored: {reason}") from None
    return Rows(table, path, encoder.first, encoder.last)


def _of_paths(entries: Iterator[Entry]) -> Iterator[pa.Table]:
    with_path = (entry for entry in entries if entry.path is not None)
    while together := list(islice(with_path, _AT_ONCE)):
        keys, sizes, crcs = zip(*((entry.key, entry.size, entry.crc32c) for entry in together), strict=True)
        yield files_rows(keys, [str(entry.path) for entry in together], sizes, None, crcs)
