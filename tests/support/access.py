"""A front that asks for tokens, on a real database, whose servicers only say that a call has reached them."""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from datas3t import v1
from datas3t.server.access import Audit, Authenticator, tokens
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Service
from datas3t.server.front.calls.guarded import Guard
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.server import Front
from datas3t.server.intents import owners
from datas3t.server.resources import Resources
from datas3t.server.telemetry.metrics import Metrics
from datas3t.v1 import aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2, table_pb2, token_pb2
from tests.support.front import LOCALHOST, HttpResponse, http_request
from tests.support.uploads import open_resources

ADMIN_TOKEN = secrets.token_urlsafe(32)
# The reason by which a call shows that it has reached its servicer. No check raises it.
REACHED = v1.ERROR_REASON_SERVER_BUSY
_FILES: tuple[Any, ...] = (
    bucket_pb2, datas3t_pb2, datarange_pb2, import_pb2, aggregate_pb2, table_pb2, token_pb2,
)  # fmt: skip

# One intent of each kind for each of two datas3ts: their ids are in the order of the datas3ts.
_INTENTS = """
    INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
    VALUES ('local', 'http://s3', 'b', 'r', 'a', 's');
    INSERT INTO datas3ts (name, bucket_id) SELECT given, id FROM s3_buckets, unnest(ARRAY['{0}', '{1}']) AS given;
    INSERT INTO datarange_uploads (datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key,
                                   part_size, multipart, expires_at)
    SELECT id, 1, 1, 1, 'datas3t/' || name || '/dataranges/x.tar', 'i', 1, false, now() + interval '1 day'
      FROM datas3ts;
    INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key,
                                   index_object_key, part_size, multipart, expires_at)
    SELECT datas3t_id, 1, 1, 1, '{{}}', true, data_object_key, 'i', 1, false, expires_at FROM datarange_uploads;
    INSERT INTO table_uploads (datas3t_id, table_name, first_key, last_key, counter, data_size, data_object_key,
                               replaces, expires_at)
    SELECT datas3t_id, 't', 1, 1, id, 1, data_object_key, '{{}}', expires_at FROM datarange_uploads;
    INSERT INTO checksums_uploads (datas3t_id, datarange_id, first_key, last_key, data_object_key, checksums_object_key,
                                   expires_at)
    SELECT datas3t_id, id, 1, 1, data_object_key, 'c', expires_at FROM datarange_uploads;
"""
_ID_TABLES = {
    "datarange_upload_id": "datarange_uploads",
    "aggregate_upload_id": "aggregate_uploads",
    "table_file_id": "table_uploads",
    "checksums_id": "checksums_uploads",
}


class _Marker:
    """A servicer of any service, each of whose methods fails with `REACHED`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.endswith("AsJson"):
            raise AttributeError(name)

        def reached(request: Any, context: Any) -> Any:
            raise Failure(REACHED, "reached")

        return reached


@dataclass(frozen=True)
class Outcome:
    """How a call ended: its code, its reason, and the metadata of the failure."""

    code: str
    reason: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class GuardedFront:
    """A front that asks for tokens, and two datas3ts, `inside` and `outside`, each with an intent of each kind."""

    front: Front
    resources: Resources
    authenticator: Authenticator
    channel: grpc.Channel
    inside: str
    outside: str

    def token(self, role: str, pattern: str = "*", *, ttl_seconds: int = 0, name: str = "") -> str:
        """Create a token, and return its text."""
        name = name or f"{role}-{secrets.token_hex(4)}"
        return tokens.create(self.resources.pool, name, role, pattern, ttl_seconds)[0]

    def ids(self, field: str, datas3t: str) -> int:
        """Return the id of the intent that a datas3t has, by the field of requests that has it."""
        statement = f"SELECT i.id FROM {_ID_TABLES[field]} AS i JOIN datas3ts AS d ON d.id = datas3t_id WHERE name = %s"
        with self.resources.pool.connection() as conn:
            row = conn.execute(statement.encode(), [datas3t]).fetchone()
        assert row
        return int(row[0])

    def rest(self, verb: str, path: str, authorization: str | None, body: object = None) -> HttpResponse:
        """Send a request over REST."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return http_request(self.front.url, verb, path, body, headers)

    def grpc(self, method: MethodDescriptor, request: Any, authorization: str | None) -> Outcome:
        """Make a call over gRPC."""
        name = f"/{method.containing_service.full_name}/{method.name}"
        metadata = () if authorization is None else (("authorization", authorization),)
        make: Any = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        response = make(name, lambda message: message.SerializeToString(), lambda raw: raw)
        try:
            called = response(request, metadata=metadata)
            for _ in called if method.server_streaming else ():
                pass
        except grpc.RpcError as error:
            return _outcome(error)
        return Outcome("OK", "", {})


def methods() -> Iterator[MethodDescriptor]:
    """Yield all methods of all services."""
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def marked_services() -> list[Service]:
    """Return all services, whose methods only fail with `REACHED`."""
    return [Service(each, _Marker()) for file in _FILES for each in file.DESCRIPTOR.services_by_name.values()]


@contextlib.contextmanager
def guarded_front(
    database: str, encryption_key: str, folder: Path, inside: str, outside: str, audit: Audit | None = None
) -> Iterator[GuardedFront]:
    """Yield a front that asks for tokens, until the block ends."""
    with psycopg.connect(database) as conn:
        conn.execute(_INTENTS.format(inside, outside).encode())
    with open_resources(database, encryption_key, folder) as resources:
        authenticator = Authenticator(resources.pool, ADMIN_TOKEN)
        front = Front(
            marked_services(),
            Metrics(),
            lambda: True,
            addr=LOCALHOST,
            cross_site=CrossSite(LOCALHOST),
            guard=Guard(authenticator.identify, owners(resources), audit),
            metrics_token=True,
        )
        front.start()
        try:
            with grpc.insecure_channel(front.url.removeprefix("http://")) as channel:
                yield GuardedFront(front, resources, authenticator, channel, inside, outside)
        finally:
            front.drain(5)
            front.close()
            authenticator.close()


def _outcome(error: grpc.RpcError) -> Outcome:
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return Outcome(error.code().name, info.reason, dict(info.metadata))
