"""BucketService: translates messages, and calls the functions that do the work."""

from typing import Any

from datas3t import v1
from datas3t.server import buckets
from datas3t.server.resources import Resources
from datas3t.v1.bucket_pb2_grpc import BucketServiceServicer


class BucketServicer(BucketServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def AddBucket(self, request: v1.AddBucketRequest, _: Any) -> v1.AddBucketResponse:
        buckets.add(
            self._resources,
            request.name,
            endpoint=request.endpoint,
            bucket=request.bucket,
            region=request.region if request.HasField("region") else None,
            access_key=request.access_key,
            secret_key=request.secret_key,
            public_endpoint=request.public_endpoint,
        )
        return v1.AddBucketResponse()

    def ListBuckets(self, request: v1.ListBucketsRequest, context: Any) -> v1.ListBucketsResponse:
        rows, next_token = buckets.page(self._resources, request.page_size, request.page_token)
        if not context.identity.is_admin:
            names = [v1.Bucket(name=row.name) for row in rows]
            return v1.ListBucketsResponse(buckets=names, next_page_token=next_token)
        return v1.ListBucketsResponse(
            buckets=[
                v1.Bucket(
                    name=row.name,
                    endpoint=row.endpoint,
                    bucket=row.bucket,
                    region=row.region,
                    public_endpoint=row.public_endpoint,
                )
                for row in rows
            ],
            next_page_token=next_token,
        )

    def UpdateBucket(self, request: v1.UpdateBucketRequest, _: Any) -> v1.UpdateBucketResponse:
        buckets.update(self._resources, request.name, request.access_key, request.secret_key)
        return v1.UpdateBucketResponse()

    def DeleteBucket(self, request: v1.DeleteBucketRequest, _: Any) -> v1.DeleteBucketResponse:
        buckets.delete(self._resources, request.name)
        return v1.DeleteBucketResponse()
