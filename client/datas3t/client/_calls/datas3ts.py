"""Datas3ts: named datasets of datapoints, and what they hold."""

from dataclasses import dataclass

from pyroaring import BitMap64

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import pages


@dataclass(frozen=True, slots=True)
class Datas3tInfo:
    """A datas3t and what it holds. `lowest` and `highest` are keys, None where it is empty; `size` is in bytes."""

    name: str
    bucket: str
    dataranges: int
    datapoints: int
    lowest: int | None
    highest: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What clearing a datas3t did: dataranges that are gone, objects that are deleted in the background."""

    dataranges: int
    objects: int


def add(connection: Connection, name: str, bucket: str) -> None:
    """As Client.add_datas3t."""
    connection.datas3t.AddDatas3t(v1.AddDatas3tRequest(name=name, bucket=bucket))


def list_all(connection: Connection) -> list[Datas3tInfo]:
    """As Client.list_datas3ts."""
    listing = pages(lambda token: connection.datas3t.ListDatas3ts(v1.ListDatas3tsRequest(page_token=token)))
    return [_datas3t(found) for page in listing for found in page.datas3ts]


def clear(connection: Connection, name: str) -> Cleared:
    """As Client.clear_datas3t."""
    answer = connection.datas3t.ClearDatas3t(v1.ClearDatas3tRequest(name=name))
    return Cleared(answer.dataranges_deleted, answer.objects_scheduled)


def delete(connection: Connection, name: str) -> None:
    """As Client.delete_datas3t."""
    connection.datas3t.DeleteDatas3t(v1.DeleteDatas3tRequest(name=name))


def bitmap(connection: Connection, name: str) -> BitMap64:
    """As Client.datapoints_bitmap."""
    stream = connection.datas3t.GetDatapointsBitmap(v1.GetDatapointsBitmapRequest(datas3t_name=name))
    return BitMap64.deserialize(b"".join(chunk.data for chunk in stream))


def _datas3t(found: v1.Datas3t) -> Datas3tInfo:
    held = found.total_datapoints > 0
    return Datas3tInfo(
        name=found.datas3t_name,
        bucket=found.bucket_name,
        dataranges=found.datarange_count,
        datapoints=found.total_datapoints,
        lowest=found.lowest_datapoint if held else None,
        highest=found.highest_datapoint if held else None,
        size=found.total_bytes,
    )
