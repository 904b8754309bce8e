"""Calls for datas3ts: named datasets of datapoints."""

from dataclasses import dataclass

from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import pages
from datas3t.client.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Datas3tInfo:
    """A datas3t and a summary of its contents.

    Attributes:
        name: The datas3t's name.
        bucket: The name of its bucket configuration.
        dataranges: How many dataranges it holds.
        datapoints: How many datapoints it holds.
        lowest: The lowest key; None if it is empty.
        highest: The highest key; None if it is empty.
        size: The size of all archives, in bytes.
    """

    name: str
    bucket: str
    dataranges: int
    datapoints: int
    lowest: int | None
    highest: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What clearing a datas3t did.

    Attributes:
        dataranges: How many dataranges were deleted.
        objects: How many objects the server now deletes in the background.
    """

    dataranges: int
    objects: int


def add(connection: Connection, name: str, bucket: str) -> None:
    """Add a datas3t; see `Client.add_datas3t`."""
    check_text(name=name, bucket=bucket)
    connection.datas3t.AddDatas3t(v1.AddDatas3tRequest(name=name, bucket=bucket))


def list_all(connection: Connection) -> list[Datas3tInfo]:
    """Return all datas3ts; see `Client.list_datas3ts`."""
    listing = pages(lambda token: connection.datas3t.ListDatas3ts(v1.ListDatas3tsRequest(page_token=token)))
    return [_info(datas3t) for page in listing for datas3t in page.datas3ts]


def clear(connection: Connection, name: str, purge_versions: bool) -> Cleared:
    """Delete all dataranges of a datas3t; see `Datas3t.clear`."""
    response = connection.datas3t.ClearDatas3t(v1.ClearDatas3tRequest(name=name, purge_versions=purge_versions))
    return Cleared(response.dataranges_deleted, response.objects_scheduled)


def delete(connection: Connection, name: str, purge_versions: bool) -> None:
    """Delete an empty datas3t; see `Client.delete_datas3t`."""
    check_text(name=name)
    connection.datas3t.DeleteDatas3t(v1.DeleteDatas3tRequest(name=name, purge_versions=purge_versions))


def bitmap(connection: Connection, name: str) -> BitMap64:
    """Return the keys that exist in a datas3t; see `Client.datapoints_bitmap`."""
    check_text(name=name)
    stream = connection.datas3t.GetDatapointsBitmap(v1.GetDatapointsBitmapRequest(datas3t_name=name))
    return BitMap64.deserialize(b"".join(chunk.data for chunk in stream))


def next_key(connection: Connection, name: str) -> int:
    """Return the key after the greatest one of a datas3t; see `Datas3t.next_key`."""
    keys = bitmap(connection, name)
    if not keys:
        return 1
    greatest = int(keys.max())
    if greatest == MAX_KEY:
        raise InvalidArgument(f"datas3t {name!r} has the datapoint {greatest}, the last key there can be")
    return greatest + 1


def _info(message: v1.Datas3t) -> Datas3tInfo:
    empty = message.total_datapoints == 0
    return Datas3tInfo(
        name=message.datas3t_name,
        bucket=message.bucket_name,
        dataranges=message.datarange_count,
        datapoints=message.total_datapoints,
        lowest=None if empty else message.lowest_datapoint,
        highest=None if empty else message.highest_datapoint,
        size=message.total_bytes,
    )
