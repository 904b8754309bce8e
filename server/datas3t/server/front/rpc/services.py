"""The services of the contract, each with its servicer."""

from datas3t.server.front.calls import Service
from datas3t.server.front.rpc.aggregate import AggregateServicer
from datas3t.server.front.rpc.bucket import BucketServicer
from datas3t.server.front.rpc.datarange import DatarangeServicer
from datas3t.server.front.rpc.datas3t import Datas3tServicer
from datas3t.server.front.rpc.imports import ImportServicer
from datas3t.server.resources import Resources
from datas3t.v1 import (
    aggregate_pb2,
    aggregate_pb2_grpc,
    bucket_pb2,
    bucket_pb2_grpc,
    datarange_pb2,
    datarange_pb2_grpc,
    datas3t_pb2,
    datas3t_pb2_grpc,
    import_pb2,
    import_pb2_grpc,
)


def services(resources: Resources) -> list[Service]:
    """Return all services, in the contract's order."""
    return [
        Service(
            bucket_pb2.DESCRIPTOR.services_by_name["BucketService"],
            BucketServicer(resources),
            bucket_pb2_grpc.add_BucketServiceServicer_to_server,
        ),
        Service(
            datas3t_pb2.DESCRIPTOR.services_by_name["Datas3tService"],
            Datas3tServicer(resources),
            datas3t_pb2_grpc.add_Datas3tServiceServicer_to_server,
        ),
        Service(
            datarange_pb2.DESCRIPTOR.services_by_name["DatarangeService"],
            DatarangeServicer(resources),
            datarange_pb2_grpc.add_DatarangeServiceServicer_to_server,
        ),
        Service(
            import_pb2.DESCRIPTOR.services_by_name["ImportService"],
            ImportServicer(resources),
            import_pb2_grpc.add_ImportServiceServicer_to_server,
        ),
        Service(
            aggregate_pb2.DESCRIPTOR.services_by_name["AggregateService"],
            AggregateServicer(resources),
            aggregate_pb2_grpc.add_AggregateServiceServicer_to_server,
        ),
    ]
