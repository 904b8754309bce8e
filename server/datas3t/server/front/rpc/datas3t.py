"""Datas3tService: translates messages, and calls the functions that do the work."""

from collections.abc import Iterator
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from datas3t import v1
from datas3t.server import datas3ts, keys
from datas3t.server.db.listings import JsonPage
from datas3t.server.front.rpc.transfer import timestamp
from datas3t.server.resources import Resources
from datas3t.v1.datas3t_pb2_grpc import Datas3tServiceServicer

_CHUNK_SIZE = 2**20  # bytes of a bitmap in one message; by default gRPC clients accept 4 MiB


class Datas3tServicer(Datas3tServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def AddDatas3t(self, request: v1.AddDatas3tRequest, _: Any) -> v1.AddDatas3tResponse:
        datas3ts.add(self._resources, request.name, request.bucket)
        return v1.AddDatas3tResponse()

    def ListDatas3ts(self, request: v1.ListDatas3tsRequest, context: Any) -> v1.ListDatas3tsResponse:
        matching = context.identity.pattern.regex
        rows, next_token = datas3ts.page(self._resources, request.page_size, request.page_token, matching)
        return v1.ListDatas3tsResponse(
            datas3ts=[
                v1.Datas3t(
                    datas3t_name=row.datas3t_name,
                    bucket_name=row.bucket_name,
                    datarange_count=row.datarange_count,
                    total_datapoints=row.total_datapoints,
                    lowest_datapoint=row.lowest_datapoint,
                    highest_datapoint=row.highest_datapoint,
                    total_bytes=row.total_bytes,
                )
                for row in rows
            ],
            next_page_token=next_token,
        )

    def ListDatas3tsAsJson(self, request: v1.ListDatas3tsRequest, context: Any) -> JsonPage:
        return datas3ts.json_page(self._resources, request.page_token, context.identity.pattern.regex)

    def ClearDatas3t(self, request: v1.ClearDatas3tRequest, _: Any) -> v1.ClearDatas3tResponse:
        dataranges, objects = datas3ts.clear(self._resources, request.name, purge_versions=request.purge_versions)
        return v1.ClearDatas3tResponse(dataranges_deleted=dataranges, objects_scheduled=objects)

    def DeleteDatas3t(self, request: v1.DeleteDatas3tRequest, _: Any) -> v1.DeleteDatas3tResponse:
        datas3ts.delete(self._resources, request.name, purge_versions=request.purge_versions)
        return v1.DeleteDatas3tResponse()

    def ReserveKeys(self, request: v1.ReserveKeysRequest, _: Any) -> v1.ReserveKeysResponse:
        reserved = keys.reserve(self._resources, request.datas3t_name, request.count, request.request_id)
        return v1.ReserveKeysResponse(
            reservation_id=reserved.id,
            first_datapoint_index=reserved.first_key,
            expires_at=timestamp(reserved.expires_at),
        )

    def GetDatapointsBitmap(self, request: v1.GetDatapointsBitmapRequest, _: Any) -> Iterator[HttpBody]:
        bitmap = datas3ts.bitmap(self._resources, request.datas3t_name)
        for start in range(0, len(bitmap), _CHUNK_SIZE):
            yield HttpBody(content_type="application/octet-stream", data=bitmap[start : start + _CHUNK_SIZE])
