"""AggregateService: translates messages, and calls the functions that do the work."""

from typing import Any

from datas3t import v1
from datas3t.server import aggregates, optimize
from datas3t.server.aggregates import SignedPart
from datas3t.server.dataranges import Presigned
from datas3t.server.front.rpc.transfer import timestamp, uploaded_parts
from datas3t.server.optimize import Proposal
from datas3t.server.resources import Resources
from datas3t.v1.aggregate_pb2_grpc import AggregateServiceServicer


class AggregateServicer(AggregateServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def StartAggregate(self, request: v1.StartAggregateRequest, _: Any) -> v1.StartAggregateResponse:
        started = aggregates.start(
            self._resources,
            request.datas3t_name,
            request.first_datapoint_index,
            request.last_datapoint_index,
            planned=request.plan,
            all_urls=request.all_urls,
            with_checksums=request.with_checksums,
        )
        aggregate = started.aggregate
        return v1.StartAggregateResponse(
            aggregate_upload_id=aggregate.id,
            object_key=aggregate.data_object_key,
            source_datarange_download_urls=[_source(each) for each in started.sources],
            use_direct_put=not aggregate.multipart,
            presigned_data_put_url=started.data_put_url,
            presigned_multipart_upload_urls=started.part_urls,
            presigned_index_put_url=started.index_put_url,
            presigned_checksums_put_url=started.checksums_put_url,
            part_size=aggregate.part_size,
            part_count=started.part_count,
            data_size=aggregate.data_size,
            expires_at=timestamp(started.expires_at),
        )

    def SignAggregateParts(self, request: v1.SignAggregatePartsRequest, _: Any) -> v1.SignAggregatePartsResponse:
        signed = aggregates.sign_parts(self._resources, request.aggregate_upload_id, request.part_numbers)
        return v1.SignAggregatePartsResponse(
            parts=[_part(each) for each in signed.parts],
            uploaded_parts=uploaded_parts(signed.uploaded),
            presigned_data_put_url=signed.data_put_url,
            presigned_index_put_url=signed.index_put_url,
            presigned_checksums_put_url=signed.checksums_put_url,
            part_count=signed.part_count,
            expires_at=timestamp(signed.expires_at),
        )

    def CompleteAggregate(self, request: v1.CompleteAggregateRequest, _: Any) -> v1.CompleteAggregateResponse:
        aggregates.complete(
            self._resources,
            request.aggregate_upload_id,
            request.upload_ids,
            extension=request.extension,
            table_file_ids=request.table_file_ids,
        )
        return v1.CompleteAggregateResponse()

    def CancelAggregate(self, request: v1.CancelAggregateRequest, _: Any) -> v1.CancelAggregateResponse:
        aggregates.cancel(self._resources, request.aggregate_upload_id)
        return v1.CancelAggregateResponse()

    def PlanAggregates(self, request: v1.PlanAggregatesRequest, _: Any) -> v1.PlanAggregatesResponse:
        proposals = optimize.plan(
            self._resources,
            request.datas3t_name,
            min_score=request.min_score if request.HasField("min_score") else None,
            target_size=request.target_size,
            max_size=request.max_aggregate_size,
            max_operations=request.max_operations,
        )
        return v1.PlanAggregatesResponse(aggregates=[_proposed(each) for each in proposals])


def _proposed(proposal: Proposal) -> v1.ProposedAggregate:
    return v1.ProposedAggregate(
        first_datapoint_index=proposal.first,
        last_datapoint_index=proposal.last,
        datarange_count=proposal.count,
        data_size=proposal.size,
        bytes_through_client=proposal.moved,
        objects_saved=proposal.objects_saved,
        score=proposal.score,
    )


def _source(signed: Presigned) -> v1.AggregateSource:
    row = signed.datarange
    return v1.AggregateSource(
        datarange_id=row.id,
        data_object_key=row.data_object_key,
        index_object_key=row.index_object_key,
        min_datapoint_key=row.first_key,
        max_datapoint_key=row.last_key,
        size_bytes=row.size_bytes,
        presigned_data_url=signed.data_url,
        presigned_index_url=signed.index_url,
        presigned_checksums_url=signed.checksums_url,
        checksums_etag=row.checksums_etag or "",
        extension=row.extension or "",
    )


def _part(part: SignedPart) -> v1.AggregatePart:
    copy = None
    if part.copy is not None:
        copy = v1.AggregateCopy(
            presigned_url=part.copy.url,
            copy_source=part.copy.copy_source,
            copy_source_range=part.copy.copy_source_range,
        )
    return v1.AggregatePart(
        number=part.number,
        size=part.size,
        presigned_url=part.url,
        pieces=[v1.AggregatePiece(datarange_id=row.id, start=start, stop=stop) for row, start, stop in part.pieces],
        zeros=part.zeros,
        copy=copy,
    )
