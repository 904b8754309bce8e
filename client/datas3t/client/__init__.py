"""The SDK: `from datas3t.client import Client`. Archives are made by `datas3t.client.pack`."""

from datas3t.client._calls.buckets import Bucket
from datas3t.client._calls.dataranges import Datarange, Segment
from datas3t.client._calls.datas3ts import Cleared, Datas3tInfo
from datas3t.client._calls.imports import Imported, Skipped
from datas3t.client._calls.optimize import ProposedAggregate
from datas3t.client._reading.costs import Explanation
from datas3t.client._reading.datapoint import Datapoint
from datas3t.client._transfers.aggregate import Aggregated
from datas3t.client._transfers.download import Downloaded
from datas3t.client._transfers.upload import Uploaded
from datas3t.client.client import Client
from datas3t.client.errors import (
    Aborted,
    AlreadyExists,
    ArchiveError,
    DatapointNotFound,
    Datas3tError,
    DeadlineExceeded,
    FailedPrecondition,
    FileError,
    Interrupted,
    InvalidArgument,
    NotFound,
    ObjectChanged,
    ServerError,
    TransferFailed,
    TransferRefused,
    Unavailable,
)
from datas3t.client.handle import Datas3t

__all__ = [
    "Aborted",
    "Aggregated",
    "AlreadyExists",
    "ArchiveError",
    "Bucket",
    "Cleared",
    "Client",
    "Datapoint",
    "DatapointNotFound",
    "Datarange",
    "Datas3t",
    "Datas3tError",
    "Datas3tInfo",
    "DeadlineExceeded",
    "Downloaded",
    "Explanation",
    "FailedPrecondition",
    "FileError",
    "Imported",
    "Interrupted",
    "InvalidArgument",
    "NotFound",
    "ObjectChanged",
    "ProposedAggregate",
    "Segment",
    "ServerError",
    "Skipped",
    "TransferFailed",
    "TransferRefused",
    "Unavailable",
    "Uploaded",
]
