"""TableService: translates messages, and calls the functions that do the work."""

from typing import Any

from datas3t import v1
from datas3t.server import tables
from datas3t.server.front.rpc.transfer import timestamp
from datas3t.server.resources import Resources
from datas3t.v1.table_pb2_grpc import TableServiceServicer


class TableServicer(TableServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def StartTableFile(self, request: v1.StartTableFileRequest, _: Any) -> v1.StartTableFileResponse:
        started = tables.start(
            self._resources,
            request.datas3t_name,
            request.table,
            request.first_key,
            request.last_key,
            request.size,
            request.replaces,
        )
        upload = started.upload
        return v1.StartTableFileResponse(
            table_file_id=upload.id,
            object_key=upload.data_object_key,
            counter=upload.counter,
            presigned_put_url=started.put_url,
            expires_at=timestamp(started.expires_at),
        )

    def CompleteTableFile(self, request: v1.CompleteTableFileRequest, _: Any) -> v1.CompleteTableFileResponse:
        tables.complete(self._resources, request.table_file_id)
        return v1.CompleteTableFileResponse()

    def CancelTableFile(self, request: v1.CancelTableFileRequest, _: Any) -> v1.CancelTableFileResponse:
        tables.cancel(self._resources, request.table_file_id)
        return v1.CancelTableFileResponse()

    def ListTables(self, request: v1.ListTablesRequest, _: Any) -> v1.ListTablesResponse:
        rows, next_token = tables.page(self._resources, request.datas3t_name, request.page_size, request.page_token)
        return v1.ListTablesResponse(
            tables=[
                v1.Table(
                    table=row.name,
                    file_count=row.file_count,
                    total_bytes=row.total_bytes,
                    lowest_key=row.lowest_key,
                    highest_key=row.highest_key,
                )
                for row in rows
            ],
            next_page_token=next_token,
        )

    def PresignTable(self, request: v1.PresignTableRequest, _: Any) -> v1.PresignTableResponse:
        signed, next_token, expires_at = tables.presign(
            self._resources,
            request.datas3t_name,
            request.table,
            request.first if request.HasField("first") else None,
            request.last if request.HasField("last") else None,
            size=request.page_size,
            token=request.page_token,
        )
        return v1.PresignTableResponse(
            files=[_presigned(each) for each in signed], next_page_token=next_token, expires_at=timestamp(expires_at)
        )

    def DropTable(self, request: v1.DropTableRequest, _: Any) -> v1.DropTableResponse:
        return v1.DropTableResponse(files_deleted=tables.drop(self._resources, request.datas3t_name, request.table))


def _presigned(signed: tables.Presigned) -> v1.PresignedTableFile:
    file = signed.file
    return v1.PresignedTableFile(
        table_file_id=file.id,
        first_key=file.first_key,
        last_key=file.last_key,
        counter=file.counter,
        size_bytes=file.size_bytes,
        etag=file.etag,
        presigned_url=signed.url,
    )
