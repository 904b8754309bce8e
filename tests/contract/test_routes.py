"""The routes are the contract's annotations, all of them and nothing else."""

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from datas3t import v1
from datas3t.server.front.rest.routes import RouteError, Routes
from datas3t.v1 import bucket_pb2
from tests.support.front import Doors, Running, Serving, servings


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return lambda request, context: request


def service_with(*rules: str, output: str = "AddBucketResponse") -> Serving:
    """A service made here whose methods have these rules, in the proto's text format."""
    file = descriptor_pb2.FileDescriptorProto(name=f"made{abs(hash((rules, output)))}.proto", package="made")
    file.dependency.extend(["datas3t/v1/bucket.proto", "datas3t/v1/datarange.proto", "google/api/annotations.proto"])
    service = file.service.add(name=f"Made{abs(hash((rules, output)))}")
    for number, rule in enumerate(rules):
        from google.protobuf import text_format

        method = service.method.add(
            name=f"Call{number}", input_type=".datas3t.v1.AddBucketRequest", output_type=f".datas3t.v1.{output}"
        )
        text_format.Parse(rule, method.options.Extensions[annotations_pb2.http])
    made: ServiceDescriptor = (
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString()).services_by_name[service.name]
    )
    return Serving(made, _Anything(), None)


def annotated() -> set[tuple[str, str]]:
    found = set()
    for serving in servings(Doors(), _Anything()):  # type: ignore[arg-type]
        for method in serving.descriptor.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for binding in (rule, *rule.additional_bindings):
                if verb := binding.WhichOneof("pattern"):
                    found.add((verb.upper(), getattr(binding, verb)))
    return found


def test_every_annotated_route_is_served_and_no_other() -> None:
    routes = Routes(servings(Doors(), _Anything()))  # type: ignore[arg-type]
    assert {(route.verb, route.path) for route in routes} == annotated()
    assert len(annotated()) > 20


def test_success_codes_come_from_the_contract() -> None:
    routes = Routes(servings(Doors(), _Anything()))  # type: ignore[arg-type]
    codes = {route.method.name: route.success for route in routes}
    assert (codes["AddBucket"], codes["AddDatas3t"], codes["StartUpload"]) == (201, 204, 200)


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        (service_with('post: "/a" body: "*"', 'post: "/a" body: "*"'), "POST /a is a route of both"),
        (service_with('get: "/a/{name}"'), "has a variable"),
        (service_with('post: "/a" body: "name"'), "`\\*` for a body or none"),
        (service_with('custom {kind: "HEAD" path: "/a"}'), "only plain verbs"),
        (service_with('get: "/a" response_body: "nothing"'), "no field nothing"),
        (service_with('get: "/a"', output="SignUploadPartsResponse"), "expires_at has a type that REST cannot tell"),
    ],
)
def test_what_cannot_be_served_is_an_error_at_start(serving: Serving, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Routes([serving])


def test_two_verbs_share_a_path(front: Running) -> None:
    assert front.ask("GET", "/api/bucket").status == 200
    assert front.ask("POST", "/api/bucket", {"name": "x"}).status == 201


def test_a_route_error_says_which_methods_are_at_odds() -> None:
    with pytest.raises(RouteError, match=r"BucketService/AddBucket and datas3t\.v1.BucketService/AddBucket"):
        Routes([Serving(bucket_pb2.DESCRIPTOR.services_by_name["BucketService"], _Anything(), None)] * 2)


@pytest.mark.parametrize("path", ["/", "/api", "/api/bucket/", "/api/v1/nothing", "//api/bucket", "/API/bucket"])
def test_an_unknown_path_is_a_404_that_says_so(front: Running, path: str) -> None:
    answer = front.ask("GET", path)
    assert (answer.status, answer.reason, answer.json["code"]) == (404, "ROUTE_NOT_FOUND", "NOT_FOUND")
    assert answer.json["details"][0]["metadata"]["path"] == path


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("/nowhere", "/nowhere"),
        ("/a%1b%5b2J%0d%0aSet-Cookie:%20x", "/a%1B[2J%0D%0ASet-Cookie:%20x"),
        ("/caf%C3%A9/%E2%80%AE/%ff", "/caf%C3%A9/%E2%80%AE/%25ff"),
    ],
)
def test_an_unknown_path_is_told_without_what_could_confuse_a_terminal(front: Running, asked: str, shown: str) -> None:
    answer = front.ask("GET", asked)
    assert answer.json["message"] == f"there is no {shown} here; see docs/api.md"
    assert answer.json["details"][0]["metadata"] == {"path": shown}


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
def test_another_verb_is_a_405_that_says_which_would_do(front: Running, verb: str, path: str, allowed: str) -> None:
    answer = front.ask(verb, path)
    assert (answer.status, answer.reason, answer.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", allowed)


def test_head_answers_as_get_does_without_the_body(front: Running) -> None:
    head, get = front.ask("HEAD", "/api/bucket"), front.ask("GET", "/api/bucket")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_the_pages_of_a_listing_are_one_array(front: Running) -> None:
    answer = front.ask("GET", "/api/v1/buckets")
    assert [bucket["name"] for bucket in answer.json] == ["b00", "b01", "b10", "b11", "b20", "b21"]
    assert answer.json[0] == {"name": "b00", "endpoint": "http://s3", "bucket": "s0"}


def test_the_messages_of_a_stream_are_one_answer(front: Running) -> None:
    answer = front.ask("POST", "/api/v1/datas3ts/import", {"bucket_name": "b"})
    assert answer.json == {
        "imported_datas3ts": ["a", "b"],
        "imported_count": 2,
        "skipped": [{"object_key": "k", "reason": "r"}],
    }


def test_bytes_are_joined_and_keep_their_content_type(front: Running) -> None:
    answer = front.ask("GET", "/api/v1/datapoints-bitmap?datas3t_name=x")
    assert (answer.status, answer.body) == (200, b"\x00\x01\x02")
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_stream_that_fails_half_way_is_an_error_and_nothing_else(front: Running) -> None:
    answer = front.ask("GET", "/api/v1/datapoints-bitmap?datas3t_name=torn")
    assert (answer.status, answer.reason) == (404, "DATAS3T_NOT_FOUND")


def test_204_has_no_body_and_no_type(front: Running) -> None:
    answer = front.ask("POST", "/api/datas3t", {"name": "x", "bucket": "b"})
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers


def test_rest_asks_for_all_urls_at_once(front: Running) -> None:
    answer = front.ask("POST", "/api/datarange/upload/start", {"number_of_datapoints": 10_000, "data_size": 1})
    assert len(answer.json["presigned_multipart_upload_urls"]) == 10_000
    assert answer.json["datarange_upload_id"] == 2**53 + 1
    assert len(answer.body) > 5_000_000
    assert front.dataranges.last == v1.StartUploadRequest(number_of_datapoints=10_000, data_size=1, all_urls=True)


def test_a_method_without_a_servicer_is_not_implemented(front: Running) -> None:
    answer = front.ask("POST", "/api/v1/datas3ts/clear", {"name": "x"})
    assert (answer.status, answer.json["code"]) == (501, "UNIMPLEMENTED")
