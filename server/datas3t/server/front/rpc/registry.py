"""The services of the contract that this server has, each with its servicer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from datas3t.server.front.rpc.aggregate import Aggregates
from datas3t.server.front.rpc.bucket import Buckets
from datas3t.server.front.rpc.datarange import Dataranges
from datas3t.server.front.rpc.datas3t import Datas3ts
from datas3t.server.front.rpc.imports import Imports
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


@dataclass(frozen=True)
class Servicing:
    """A service of the contract and who serves it."""

    descriptor: ServiceDescriptor
    servicer: Any
    add_to_server: Callable[[Any, grpc.Server], None]


def servicers(resources: Resources) -> list[Servicing]:
    """All services, in the contract's order."""
    return [
        Servicing(
            bucket_pb2.DESCRIPTOR.services_by_name["BucketService"],
            Buckets(resources),
            bucket_pb2_grpc.add_BucketServiceServicer_to_server,
        ),
        Servicing(
            datas3t_pb2.DESCRIPTOR.services_by_name["Datas3tService"],
            Datas3ts(resources),
            datas3t_pb2_grpc.add_Datas3tServiceServicer_to_server,
        ),
        Servicing(
            datarange_pb2.DESCRIPTOR.services_by_name["DatarangeService"],
            Dataranges(resources),
            datarange_pb2_grpc.add_DatarangeServiceServicer_to_server,
        ),
        Servicing(
            import_pb2.DESCRIPTOR.services_by_name["ImportService"],
            Imports(resources),
            import_pb2_grpc.add_ImportServiceServicer_to_server,
        ),
        Servicing(
            aggregate_pb2.DESCRIPTOR.services_by_name["AggregateService"],
            Aggregates(resources),
            aggregate_pb2_grpc.add_AggregateServiceServicer_to_server,
        ),
    ]
