"""The routes are exactly the annotations of the protos."""

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from datas3t import v1
from datas3t.server.front.calls import Service
from datas3t.server.front.rest.routes import RouteError, Routes
from datas3t.v1 import bucket_pb2
from tests.support.front import Gate, RunningFront, fake_services


class _AnyServicer:
    """Has every method; each returns its request."""

    def __getattr__(self, name: str) -> Any:
        return lambda request, context: request


def service_with(*rules: str, output: str = "AddBucketResponse") -> Service:
    """Return a new service with one method for each rule of google.api.http, in the protos' text format."""
    file = descriptor_pb2.FileDescriptorProto(name=f"test{abs(hash((rules, output)))}.proto", package="test")
    file.dependency.extend(["datas3t/v1/bucket.proto", "datas3t/v1/datarange.proto", "google/api/annotations.proto"])
    file.dependency.append("datas3t/v1/access.proto")
    service = file.service.add(name=f"Test{abs(hash((rules, output)))}")
    for number, rule in enumerate(rules):
        from google.protobuf import text_format

        method = service.method.add(
            name=f"Call{number}", input_type=".datas3t.v1.AddBucketRequest", output_type=f".datas3t.v1.{output}"
        )
        text_format.Parse(rule, method.options.Extensions[annotations_pb2.http])
        text_format.Parse("role: ROLE_READ none: true", method.options.Extensions[v1.access])
    descriptor: ServiceDescriptor = (
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString()).services_by_name[service.name]
    )
    return Service(descriptor, _AnyServicer())


def annotated_routes() -> set[tuple[str, str]]:
    """Return verb and path of every annotation."""
    routes = set()
    for service in fake_services(Gate(), _AnyServicer()):  # type: ignore[arg-type]
        for method in service.descriptor.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for binding in (rule, *rule.additional_bindings):
                if verb := binding.WhichOneof("pattern"):
                    routes.add((verb.upper(), getattr(binding, verb)))
    return routes


def test_exactly_the_annotated_routes_are_served() -> None:
    routes = Routes(fake_services(Gate(), _AnyServicer()))  # type: ignore[arg-type]
    assert {(route.verb, route.path) for route in routes} == annotated_routes()
    assert len(annotated_routes()) > 20


def test_success_codes_come_from_the_contract() -> None:
    routes = Routes(fake_services(Gate(), _AnyServicer()))  # type: ignore[arg-type]
    codes = {route.method.name: route.success for route in routes}
    assert (codes["AddBucket"], codes["AddDatas3t"], codes["StartUpload"]) == (201, 204, 200)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        (service_with('post: "/a" body: "*"', 'post: "/a" body: "*"'), "POST /a is a route of both"),
        (service_with('get: "/a/{name}"'), "must not have variables"),
        (service_with('post: "/a" body: "name"'), "`\\*` or nothing as its body"),
        (service_with('custom {kind: "HEAD" path: "/a"}'), "must have a plain verb"),
        (service_with('get: "/a" response_body: "nothing"'), "no field nothing"),
        (service_with('get: "/a"', output="SignUploadPartsResponse"), "expires_at has a type that REST cannot send"),
    ],
)
def test_a_route_that_cannot_be_served_is_an_error_at_start(service: Service, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Routes([service])


def test_a_method_without_a_role_or_a_scope_is_an_error_at_start() -> None:
    service = service_with('get: "/a"')
    for access in (v1.MethodAccess(none=True), v1.MethodAccess(role=v1.ROLE_READ), v1.MethodAccess()):
        file = descriptor_pb2.FileDescriptorProto()
        service.descriptor.file.CopyToProto(file)
        file.service[0].name = f"Other{id(access)}"
        file.name = f"{file.service[0].name}.proto"
        file.service[0].method[0].options.Extensions[v1.access].CopyFrom(access)
        added = descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
        with pytest.raises(TypeError, match="has no role or no scope"):
            Routes([Service(added.services_by_name[file.service[0].name], _AnyServicer())])


def test_two_verbs_can_share_a_path(front: RunningFront) -> None:
    assert front.request("GET", "/api/bucket").status == 200
    assert front.request("POST", "/api/bucket", {"name": "x"}).status == 201


def test_the_error_for_a_duplicate_route_names_both_methods() -> None:
    descriptor = bucket_pb2.DESCRIPTOR.services_by_name["BucketService"]
    service = Service(descriptor, _AnyServicer())
    with pytest.raises(RouteError, match=r"BucketService/AddBucket and datas3t\.v1.BucketService/AddBucket"):
        Routes([service, service])


@pytest.mark.parametrize("path", ["/", "/api", "/api/bucket/", "/api/v1/nothing", "//api/bucket", "/API/bucket"])
def test_an_unknown_path_is_a_404_with_the_path(front: RunningFront, path: str) -> None:
    response = front.request("GET", path)
    assert (response.status, response.reason, response.json["code"]) == (404, "ROUTE_NOT_FOUND", "NOT_FOUND")
    assert response.json["details"][0]["metadata"]["path"] == path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/nowhere", "/nowhere"),
        ("/a%1b%5b2J%0d%0aSet-Cookie:%20x", "/a%1B[2J%0D%0ASet-Cookie:%20x"),
        ("/caf%C3%A9/%E2%80%AE/%ff", "/caf%C3%A9/%E2%80%AE/%25ff"),
    ],
)
def test_an_unknown_path_is_shown_without_control_characters(front: RunningFront, path: str, shown: str) -> None:
    response = front.request("GET", path)
    assert response.json["message"] == f"no route has the path {shown}; see docs/api.md"
    assert response.json["details"][0]["metadata"] == {"path": shown}


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("PUT", "/api/bucket", "GET, HEAD, POST"),
        ("GET", "/api/v1/datas3ts/clear", "POST"),
        ("OPTIONS", "/api/v1/datas3ts", "DELETE, GET, HEAD, POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PATCH", "/api/v1/download", "POST"),
    ],
)
def test_another_verb_is_a_405_with_the_allowed_verbs(front: RunningFront, verb: str, path: str, allowed: str) -> None:
    response = front.request(verb, path)
    assert (response.status, response.reason, response.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", allowed)


def test_head_returns_the_headers_of_get_without_the_body(front: RunningFront) -> None:
    head, get = front.request("HEAD", "/api/bucket"), front.request("GET", "/api/bucket")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_the_pages_of_a_listing_become_one_array(front: RunningFront) -> None:
    response = front.request("GET", "/api/v1/buckets")
    assert [bucket["name"] for bucket in response.json] == ["b00", "b01", "b10", "b11", "b20", "b21"]
    assert response.json[0] == {"name": "b00", "endpoint": "http://s3", "bucket": "s0"}


def test_the_messages_of_a_stream_become_one_response(front: RunningFront) -> None:
    response = front.request("POST", "/api/v1/datas3ts/import", {"bucket_name": "b"})
    assert response.json == {
        "imported_datas3ts": ["a", "b"],
        "imported_count": 2,
        "skipped": [{"object_key": "k", "reason": "r"}],
    }


def test_streamed_bytes_are_joined_and_keep_their_content_type(front: RunningFront) -> None:
    response = front.request("GET", "/api/v1/datapoints-bitmap?datas3t_name=x")
    assert (response.status, response.body) == (200, b"\x00\x01\x02")
    assert response.headers["content-type"] == "application/octet-stream"


def test_a_stream_that_fails_after_its_first_message_returns_only_the_error(front: RunningFront) -> None:
    response = front.request("GET", "/api/v1/datapoints-bitmap?datas3t_name=torn")
    assert (response.status, response.reason) == (404, "DATAS3T_NOT_FOUND")


def test_a_204_has_no_body_and_no_content_type(front: RunningFront) -> None:
    response = front.request("POST", "/api/datas3t", {"name": "x", "bucket": "b"})
    assert (response.status, response.body) == (204, b"")
    assert "content-type" not in response.headers


def test_rest_requests_all_urls_at_once(front: RunningFront) -> None:
    response = front.request("POST", "/api/datarange/upload/start", {"number_of_datapoints": 10_000, "data_size": 1})
    assert len(response.json["presigned_multipart_upload_urls"]) == 10_000
    assert response.json["datarange_upload_id"] == 2**53 + 1
    assert len(response.body) > 5_000_000
    assert front.dataranges.last_request == v1.StartUploadRequest(
        number_of_datapoints=10_000, data_size=1, all_urls=True
    )


def test_a_method_without_a_servicer_is_not_implemented(front: RunningFront) -> None:
    response = front.request("POST", "/api/v1/datas3ts/clear", {"name": "x"})
    assert (response.status, response.json["code"]) == (501, "UNIMPLEMENTED")
