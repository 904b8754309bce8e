"""Tables: Parquet files beside the archives of a datas3t. The server stores which keys they have, and reads no rows."""

from datas3t.server.tables.completing import CheckedFile, check, commit, complete_with
from datas3t.server.tables.lifecycle import cancel, complete, start
from datas3t.server.tables.listing import Presigned, drop, page, presign

__all__ = [
    "CheckedFile",
    "Presigned",
    "cancel",
    "check",
    "commit",
    "complete",
    "complete_with",
    "drop",
    "page",
    "presign",
    "start",
]
