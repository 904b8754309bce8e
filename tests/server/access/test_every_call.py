"""Every rpc and every route, with every kind of token: what each answers, and whether the call reaches its servicer.

The rows are made of the descriptors. What each method needs is written down here once more, as the contract says it.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from datas3t import v1
from datas3t.server.front.rest.routes import Route, Routes
from tests.support.access import ADMIN_TOKEN, GuardedFront, Outcome, guarded_front, marked_services, methods

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from tests.support.stack import DatabasePool

INSIDE, OUTSIDE = "photos-1", "secret-1"
ROLES = ("read", "write", "manage", "admin")
NEEDS = {
    "read": {
        "ListDatas3ts", "GetDatapointsBitmap", "ListDataranges", "PresignDownload", "PresignDataranges",
        "PlanAggregates", "ListTables", "PresignTable", "WhoAmI",
    },
    "write": {
        "ReserveKeys", "StartUpload", "SignUploadParts", "CompleteUpload", "CancelUpload", "StartChecksums",
        "CompleteChecksums", "CancelChecksums", "StartAggregate", "SignAggregateParts", "CompleteAggregate",
        "CancelAggregate", "StartTableFile", "CompleteTableFile", "CancelTableFile", "DropTable",
    },
    "manage": {"ListBuckets", "AddDatas3t", "ClearDatas3t", "DeleteDatas3t", "DeleteDatarange", "Import"},
    "admin": {"AddBucket", "UpdateBucket", "DeleteBucket", "CreateToken", "ListTokens", "RevokeToken"},
}  # fmt: skip
NOT_FOUND = {
    "datarange_upload_id": "UPLOAD_NOT_FOUND",
    "aggregate_upload_id": "AGGREGATE_NOT_FOUND",
    "table_file_id": "TABLE_FILE_NOT_FOUND",
    "checksums_id": "CHECKSUMS_NOT_FOUND",
}
REACHED = Outcome("UNAVAILABLE", "SERVER_BUSY", {})
HTTP = {"UNAVAILABLE": 503, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}


@dataclass(frozen=True)
class Given:
    """What a caller sends as `authorization`, and the role that it has by that: none, or refused as a `reason`."""

    label: str
    authorization: str | None
    role: str = ""
    narrow: bool = False
    reason: str = ""


@pytest.fixture(scope="module")
def site(
    services: "Services", databases: "DatabasePool", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedFront]:
    folder: Path = tmp_path_factory.mktemp("access")
    with databases.lend() as url, guarded_front(url, services.encryption_key, folder, INSIDE, OUTSIDE) as front:
        yield front


@pytest.fixture(scope="module")
def callers(site: GuardedFront) -> list[Given]:
    """All kinds of callers."""
    token_id, secret = site.token("admin").removeprefix("d3t_").split("_")
    expired, revoked = site.token("admin", name="expired"), site.token("admin", name="revoked")
    with site.resources.pool.connection() as conn:
        conn.execute("UPDATE api_tokens SET expires_at = now() - interval '1 second' WHERE name = 'expired'")
        conn.execute("UPDATE api_tokens SET revoked_at = now() WHERE name = 'revoked'")
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    refused = {
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "of another server": f"Bearer d3t_9{token_id}_{secret}",
        "with a wrong secret": f"Bearer d3t_{token_id}_{wrong}",
        "of another admin": f"Bearer {secrets.token_urlsafe(32)}",
        "not a token": "Bearer d3t_1_x",
        "twice": f"Bearer {site.token('admin')}, Bearer {site.token('admin')}",
    }
    missing = {"none": None, "empty": "Bearer ", "of another scheme": f"Basic {site.token('admin')}"}
    return [
        *(Given(label, sent, reason="TOKEN_MISSING") for label, sent in missing.items()),
        *(Given(label, sent, reason="TOKEN_REFUSED") for label, sent in refused.items()),
        *(Given(role, f"Bearer {site.token(role)}", role) for role in ROLES),
        *(Given(f"{role} narrow", f"bearer {site.token(role, 'photos-*')}", role, narrow=True) for role in ROLES[:3]),
        Given("the admin token", f"Bearer {ADMIN_TOKEN}", "admin"),
    ]


def _role_of(name: str) -> str:
    """Return the role that a method needs, as the table above has it."""
    (role,) = (role for role, names in NEEDS.items() if name in names)
    return role


def _fields(site: GuardedFront, method: MethodDescriptor, datas3t: str) -> dict[str, Any]:
    """Return the fields of a request that is about a datas3t, as far as the check looks at them."""
    access = method.GetOptions().Extensions[v1.access]
    if access.datas3t_field:
        return {access.datas3t_field: datas3t}
    return {access.id_field: site.ids(access.id_field, datas3t)} if access.id_field else {}


def _expected(given: Given, method: MethodDescriptor, datas3t: str) -> Outcome:
    """Return how a call must end."""
    needed = _role_of(method.name)
    access = method.GetOptions().Extensions[v1.access]
    if given.reason:
        return Outcome("UNAUTHENTICATED", given.reason, {})
    if ROLES.index(given.role) < ROLES.index(needed):
        return Outcome("PERMISSION_DENIED", "ACCESS_DENIED", {"role": needed, "token_role": given.role})
    if not given.narrow or datas3t == INSIDE or not (access.datas3t_field or access.id_field):
        return REACHED
    if access.id_field:
        return Outcome("NOT_FOUND", NOT_FOUND[access.id_field], {})
    about = {"role": needed, "token_role": given.role, "datas3t": datas3t, "token_pattern": "photos-*"}
    return Outcome("PERMISSION_DENIED", "ACCESS_DENIED", about)


def _without_ids(outcome: Outcome) -> Outcome:
    """Return the outcome without the id that the caller has sent."""
    return Outcome(outcome.code, outcome.reason, {k: v for k, v in outcome.metadata.items() if not k.endswith("_id")})


ROUTES = list(Routes(marked_services()))
# A datas3t that does not exist is judged as one that does.
DATAS3TS = (INSIDE, OUTSIDE, "secret-that-never-was")


def _rows(site: GuardedFront, callers: list[Given], method: MethodDescriptor) -> Iterator[tuple[Given, str]]:
    by_id = bool(method.GetOptions().Extensions[v1.access].id_field)
    for given in callers:
        yield from ((given, datas3t) for datas3t in DATAS3TS[: 2 if by_id else 3])


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: str(each.name))
def test_each_method_over_grpc(site: GuardedFront, callers: list[Given], method: MethodDescriptor) -> None:
    for given, datas3t in _rows(site, callers, method):
        request = GetMessageClass(method.input_type)(**_fields(site, method, datas3t))
        outcome = _without_ids(site.grpc(method, request, given.authorization))
        assert outcome == _expected(given, method, datas3t), (given.label, datas3t)


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: f"{each.verb} {each.path}")
def test_each_route_over_rest(site: GuardedFront, callers: list[Given], route: Route) -> None:
    for given, datas3t in _rows(site, callers, route.method):
        fields = _fields(site, route.method, datas3t)
        path = route.path if route.has_body or not fields else f"{route.path}?{urlencode(fields)}"
        response = site.rest(route.verb, path, given.authorization, fields if route.has_body else None)
        (detail,) = response.json["details"]
        outcome = Outcome(response.json["code"], detail["reason"], detail.get("metadata", {}))
        expected = _expected(given, route.method, datas3t)
        assert _without_ids(outcome) == expected, (given.label, datas3t)
        assert response.status == HTTP[expected.code]
        assert response.headers.get("www-authenticate") == ("Bearer" if response.status == 401 else None)
        sent = (given.authorization or "").partition(" ")[2]
        assert not sent or sent not in response.body.decode()


def test_the_table_has_hundreds_of_rows_and_every_method() -> None:
    assert sorted(name for names in NEEDS.values() for name in names) == sorted(each.name for each in methods())
    assert {route.method.name for route in ROUTES} < {each.name for each in methods()}
    assert (len(list(methods())) + len(ROUTES)) * 18 > 600


@pytest.mark.parametrize("number", [0, 2**63, 2**64 - 1])
def test_a_foreign_id_is_answered_as_one_that_does_not_exist(site: GuardedFront, number: int) -> None:
    token = f"Bearer {site.token('write', 'photos-*')}"
    for method in methods():
        field = method.GetOptions().Extensions[v1.access].id_field
        if field:
            kind = GetMessageClass(method.input_type)
            foreign = site.grpc(method, kind(**{field: site.ids(field, OUTSIDE)}), token)
            unknown = site.grpc(method, kind(**{field: number}), token)
            assert (foreign.code, foreign.reason) == (unknown.code, unknown.reason) == ("NOT_FOUND", NOT_FOUND[field])
            assert foreign.metadata.keys() == unknown.metadata.keys()


def test_a_name_that_no_datas3t_can_have_is_an_error_about_the_field(site: GuardedFront) -> None:
    token = f"Bearer {site.token('manage', 'photos-*')}"
    for body in ({"name": "photos-1/../secret-1"}, {"name": ""}, {}):
        response = site.rest("POST", "/api/v1/datas3ts/clear", token, body)
        assert (response.status, response.reason) == (400, "INVALID_VALUE")


OPEN_PATHS = ("/healthz", "/readyz", "/openapi.json")


def test_what_has_no_data_answers_without_a_token(site: GuardedFront) -> None:
    for path in OPEN_PATHS:
        assert site.rest("GET", path, None).status == 200, path
    assert (site.rest("GET", "/api/v1/none", None).status, site.rest("PUT", "/healthz", None).status) == (404, 405)


def test_metrics_ask_for_a_token_if_the_settings_say_so(site: GuardedFront, callers: list[Given]) -> None:
    for given in callers:
        response = site.rest("GET", "/metrics", given.authorization)
        assert response.status == (401 if given.reason else 200), given.label
        assert response.headers.get("www-authenticate") == ("Bearer" if given.reason else None)


def test_every_type_of_a_field_with_an_id_is_a_number_and_with_a_name_a_text() -> None:
    for method in methods():
        access = method.GetOptions().Extensions[v1.access]
        fields = method.input_type.fields_by_name
        if access.id_field:
            assert fields[access.id_field].type == FieldDescriptor.TYPE_UINT64
        if access.datas3t_field:
            assert fields[access.datas3t_field].type == FieldDescriptor.TYPE_STRING


def test_the_description_names_the_role_of_each_route_and_asks_for_a_token(site: GuardedFront) -> None:
    document = site.rest("GET", "/openapi.json", None).json
    assert document["security"] == [{"token": []}]
    for route in ROUTES:
        operation = document["paths"][route.path][route.verb.lower()]
        assert f"the role {_role_of(route.method.name)}." in operation["description"]
        assert {"401", "403"} < operation["responses"].keys()
