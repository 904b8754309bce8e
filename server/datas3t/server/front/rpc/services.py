"""The services of the contract, each with its servicer."""

from datas3t.server.access import Authenticator
from datas3t.server.front.calls import Service
from datas3t.server.front.rpc.aggregate import AggregateServicer
from datas3t.server.front.rpc.bucket import BucketServicer
from datas3t.server.front.rpc.datarange import DatarangeServicer
from datas3t.server.front.rpc.datas3t import Datas3tServicer
from datas3t.server.front.rpc.imports import ImportServicer
from datas3t.server.front.rpc.table import TableServicer
from datas3t.server.front.rpc.token import TokenServicer
from datas3t.server.resources import Resources
from datas3t.v1 import aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2, table_pb2, token_pb2


def services(resources: Resources, authenticator: Authenticator | None = None) -> list[Service]:
    """Return all services, in the contract's order. Without an authenticator nobody is asked for a token."""
    return [
        Service(bucket_pb2.DESCRIPTOR.services_by_name["BucketService"], BucketServicer(resources)),
        Service(datas3t_pb2.DESCRIPTOR.services_by_name["Datas3tService"], Datas3tServicer(resources)),
        Service(datarange_pb2.DESCRIPTOR.services_by_name["DatarangeService"], DatarangeServicer(resources)),
        Service(import_pb2.DESCRIPTOR.services_by_name["ImportService"], ImportServicer(resources)),
        Service(aggregate_pb2.DESCRIPTOR.services_by_name["AggregateService"], AggregateServicer(resources)),
        Service(table_pb2.DESCRIPTOR.services_by_name["TableService"], TableServicer(resources)),
        Service(token_pb2.DESCRIPTOR.services_by_name["TokenService"], TokenServicer(resources, authenticator)),
    ]
