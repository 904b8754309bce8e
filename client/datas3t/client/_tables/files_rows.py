"""Rows that belong to an archive: those of the table `files`, which say which file each datapoint was, and others."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from datas3t.client._calls.session import Session
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.encoding import Encoder
from datas3t.client._tables.remote import Remote
from datas3t.client._tables.schemas import FILES_SCHEMA, KEY
from datas3t.transport import MemoryRange


def files_rows(
    keys: ArrayLike,
    paths: Sequence[str],
    sizes: ArrayLike,
    mtimes_ns: Sequence[int | None] | None,
    crcs: ArrayLike,
) -> pa.Table:
    """Return rows of the table `files`.

    Args:
        keys: The keys, ascending.
        paths: The path of each, as `archive.paths.encode` returns it.
        sizes: The size of each content, in bytes.
        mtimes_ns: When each file was changed last, in nanoseconds since the epoch, None where that is not known; None
            if it is known of no file.
        crcs: The CRC-32C of each content.
    """
    count = len(paths)
    times = pa.nulls(count, pa.int64()) if mtimes_ns is None else pa.array(mtimes_ns, pa.int64())
    columns = [
        pa.array(np.asarray(keys, np.int64)),
        pa.array(paths, pa.string()),
        pa.array(np.asarray(sizes, np.int64)),
        times.cast(FILES_SCHEMA.field("mtime").type),
        pa.array(np.asarray(crcs, np.uint32)),
    ]
    return pa.table(columns, schema=FILES_SCHEMA)


def send_rows(session: Session, name: str, table: str, rows: pa.Table) -> int:
    """Put rows of a table into S3, and return the id of their file. They count when the file is completed.

    `CompleteUpload` and `CompleteAggregate` complete files together with an archive; a file that is not needed is
    cancelled by `tables.cancel`, or by the server when its URL expires.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        table: The table.
        rows: The rows, with the column `key` in ascending order.

    Raises:
        InvalidArgument: Keys are not ascending.
        TransferFailed: S3 cannot be reached, or refuses the file.
    """
    keys = rows.column(KEY)
    return Remote(session, name, table).send(keys[0].as_py(), keys[-1].as_py(), MemoryRange(encoded(rows)))


def encoded(rows: pa.Table) -> memoryview:
    """Return the Parquet file that holds rows, whose keys must be ascending."""
    out = io.BytesIO()
    encoder = Encoder(out, rows.schema)
    encoder.add(rows)
    encoder.finish()
    return out.getbuffer()
