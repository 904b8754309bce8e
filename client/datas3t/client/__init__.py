"""The Python SDK: connect to a server, make archives, upload, download and read them.

from datas3t.client import Client, pack

packed = pack(["photos"], "photos.tar")
with Client("http://localhost:8765") as client:
    photos = client.datas3t("photos")
    photos.upload_tar(packed.archive)
    photos.get(42)
"""

from importlib import import_module
from typing import TYPE_CHECKING

import datas3t.client._calls.fork  # noqa: F401 - before anything imports grpc

if TYPE_CHECKING:
    from datas3t.client._calls.buckets import Bucket
    from datas3t.client._calls.dataranges import Datarange, Segment
    from datas3t.client._calls.datas3ts import Cleared, Datas3tInfo
    from datas3t.client._calls.imports import Imported, Skipped
    from datas3t.client._calls.keys import Reservation
    from datas3t.client._calls.optimize import ProposedAggregate
    from datas3t.client._calls.tables import TableInfo
    from datas3t.client._calls.tokens import Identity, NewToken, Token
    from datas3t.client._files.pack import Packed, pack
    from datas3t.client._files.results import ImportedShards, Pulled, Pushed
    from datas3t.client._files.writer import Writer
    from datas3t.client._reading.costs import Explanation
    from datas3t.client._reading.datapoint import Datapoint, DatapointInfo, DatapointView
    from datas3t.client._reading.opened import OpenDatapoint
    from datas3t.client._tables.results import Appended, Compacted
    from datas3t.client._tables.table import Table
    from datas3t.client._transfers.aggregate import Aggregated
    from datas3t.client._transfers.download import Downloaded
    from datas3t.client._transfers.upload import Uploaded
    from datas3t.client._transfers.verify import Verified, WrongDatarange
    from datas3t.client.client import Client
    from datas3t.client.errors import (
        Aborted,
        AlreadyExists,
        ArchiveError,
        ChecksumMismatch,
        DatapointNotFound,
        Datas3tError,
        DeadlineExceeded,
        FailedPrecondition,
        FileError,
        FilesFailed,
        Interrupted,
        InvalidArgument,
        NotFound,
        ObjectChanged,
        PackageMissing,
        PathNotFound,
        PermissionDenied,
        ServerError,
        TableError,
        TransferFailed,
        TransferRefused,
        Unauthenticated,
        Unavailable,
    )
    from datas3t.client.handle import Datas3t
    from datas3t.client.keyset import KeySet
    from datas3t.client.progress import Progress

    __version__: str

__all__ = [
    "Aborted",
    "Aggregated",
    "AlreadyExists",
    "Appended",
    "ArchiveError",
    "Bucket",
    "ChecksumMismatch",
    "Cleared",
    "Client",
    "Compacted",
    "Datapoint",
    "DatapointInfo",
    "DatapointNotFound",
    "DatapointView",
    "Datarange",
    "Datas3t",
    "Datas3tError",
    "Datas3tInfo",
    "DeadlineExceeded",
    "Downloaded",
    "Explanation",
    "FailedPrecondition",
    "FileError",
    "FilesFailed",
    "Identity",
    "Imported",
    "ImportedShards",
    "Interrupted",
    "InvalidArgument",
    "KeySet",
    "NewToken",
    "NotFound",
    "ObjectChanged",
    "OpenDatapoint",
    "PackageMissing",
    "Packed",
    "PathNotFound",
    "PermissionDenied",
    "Progress",
    "ProposedAggregate",
    "Pulled",
    "Pushed",
    "Reservation",
    "Segment",
    "ServerError",
    "Skipped",
    "Table",
    "TableError",
    "TableInfo",
    "Token",
    "TransferFailed",
    "TransferRefused",
    "Unauthenticated",
    "Unavailable",
    "Uploaded",
    "Verified",
    "Writer",
    "WrongDatarange",
    "__version__",
    "pack",
]

# Where the names are. Their modules are imported at the first use of a name: all of them take a quarter of a second.
_MODULES = {
    "Aborted": "errors",
    "Aggregated": "_transfers.aggregate",
    "AlreadyExists": "errors",
    "Appended": "_tables.results",
    "ArchiveError": "errors",
    "Bucket": "_calls.buckets",
    "ChecksumMismatch": "errors",
    "Cleared": "_calls.datas3ts",
    "Client": "client",
    "Compacted": "_tables.results",
    "Datapoint": "_reading.datapoint",
    "DatapointInfo": "_reading.datapoint",
    "DatapointNotFound": "errors",
    "DatapointView": "_reading.datapoint",
    "Datarange": "_calls.dataranges",
    "Datas3t": "handle",
    "Datas3tError": "errors",
    "Datas3tInfo": "_calls.datas3ts",
    "DeadlineExceeded": "errors",
    "Downloaded": "_transfers.download",
    "Explanation": "_reading.costs",
    "FailedPrecondition": "errors",
    "FileError": "errors",
    "FilesFailed": "errors",
    "Identity": "_calls.tokens",
    "Imported": "_calls.imports",
    "ImportedShards": "_files.results",
    "Interrupted": "errors",
    "InvalidArgument": "errors",
    "KeySet": "keyset",
    "NewToken": "_calls.tokens",
    "NotFound": "errors",
    "ObjectChanged": "errors",
    "OpenDatapoint": "_reading.opened",
    "PackageMissing": "errors",
    "Packed": "_files.pack",
    "PathNotFound": "errors",
    "PermissionDenied": "errors",
    "Progress": "progress",
    "ProposedAggregate": "_calls.optimize",
    "Pulled": "_files.results",
    "Pushed": "_files.results",
    "Reservation": "_calls.keys",
    "Segment": "_calls.dataranges",
    "ServerError": "errors",
    "Skipped": "_calls.imports",
    "Table": "_tables.table",
    "TableError": "errors",
    "TableInfo": "_calls.tables",
    "Token": "_calls.tokens",
    "TransferFailed": "errors",
    "TransferRefused": "errors",
    "Unauthenticated": "errors",
    "Unavailable": "errors",
    "Uploaded": "_transfers.upload",
    "Verified": "_transfers.verify",
    "Writer": "_files.writer",
    "WrongDatarange": "_transfers.verify",
    "pack": "_files.pack",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return one of the names, or `__version__`, the version of the installed distribution."""
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 - slow to import

            return version("datas3t")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
