"""The REST routes, read from the contract: google.api.http with its additional bindings, and our option for success."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.observing import Servicing
from datas3t.server.front.rest import codec as json

RAW = "google.api.HttpBody"
_PLAIN = "/:@!$&'()*+,;=[]"  # what a path holds as it is (RFC 3986); what could confuse a terminal or a log is encoded


class RouteError(TypeError):
    """The contract asks for a route that this server cannot serve, or for one twice. Found at start."""


@dataclass(frozen=True)
class Route:
    """One verb and path, and the method behind it."""

    verb: str
    path: str
    method: MethodDescriptor
    call: Callable[[Message, Any], Any]  # the servicer's method
    request: type[Message]
    has_body: bool
    response_body: str  # the one field that is the whole answer, or ""
    success: int

    @property
    def name(self) -> str:
        """`datas3t.v1.Service/Method`, as in gRPC."""
        return f"{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def raw(self) -> bool:
        """The answer is an HttpBody: bytes with a content type of their own."""
        return str(self.method.output_type.full_name) == RAW


class Routes:
    """All routes, by path and verb."""

    def __init__(self, servicings: Sequence[Servicing]) -> None:
        self._by_path: dict[str, dict[str, Route]] = {}
        for servicing in servicings:
            for method in servicing.descriptor.methods:
                for route in _routes(method, getattr(servicing.servicer, method.name)):
                    self._add(route)

    def __iter__(self) -> Iterator[Route]:
        return (route for verbs in self._by_path.values() for route in verbs.values())

    def find(self, verb: str, path: str) -> Route:
        """The route; HEAD is answered as GET is. Raises Failure (ROUTE_NOT_FOUND, METHOD_NOT_ALLOWED)."""
        verbs = self._by_path.get(path)
        if verbs is None:
            shown = quote(path[:200], safe=_PLAIN, errors="replace")
            raise Failure(v1.ERROR_REASON_ROUTE_NOT_FOUND, f"there is no {shown} here; see docs/api.md", path=shown)
        route = verbs.get("GET" if verb == "HEAD" else verb)
        if route is None:
            raise method_not_allowed(path, verb, [*verbs, *(["HEAD"] if "GET" in verbs else [])])
        return route

    def _add(self, route: Route) -> None:
        verbs = self._by_path.setdefault(route.path, {})
        if (other := verbs.setdefault(route.verb, route)) is not route:
            raise RouteError(f"{route.verb} {route.path} is a route of both {other.name} and {route.name}")


def method_not_allowed(path: str, verb: str, allowed: Iterable[str]) -> Failure:
    listed = ", ".join(sorted(allowed))
    message = f"{path} takes {listed}, not {verb[:20]}"
    return Failure(v1.ERROR_REASON_METHOD_NOT_ALLOWED, message, path=path, allowed=listed)


def _routes(method: MethodDescriptor, call: Callable[[Message, Any], Any]) -> list[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    success = options.Extensions[v1.rest_method].success or HTTPStatus.OK
    found = [_route(binding, method, call, success) for binding in (rule, *rule.additional_bindings)]
    _check(method, found)
    return found


def _route(
    rule: http_pb2.HttpRule, method: MethodDescriptor, call: Callable[[Message, Any], Any], success: int
) -> Route:
    verb = rule.WhichOneof("pattern") or ""
    if verb not in ("get", "put", "post", "delete", "patch") or rule.body not in ("", "*"):
        raise RouteError(f"{method.full_name}: only plain verbs, with `*` for a body or none, are routes here")
    path = str(getattr(rule, verb))
    if "{" in path or not path.startswith("/"):
        raise RouteError(f"{method.full_name}: the path {path} has a variable; names travel in queries and bodies here")
    return Route(
        verb.upper(),
        path,
        method,
        call,
        GetMessageClass(method.input_type),
        rule.body == "*",
        rule.response_body,
        success,
    )


def _check(method: MethodDescriptor, routes: Sequence[Route]) -> None:
    """What cannot be told in JSON is found at start, not by the first caller."""
    if method.client_streaming:
        raise RouteError(f"{method.full_name}: a stream of requests cannot be a route")
    json.check(method.input_type)
    if not routes[0].raw:
        json.check(method.output_type)
    for route in routes:
        if route.response_body and route.response_body not in method.output_type.fields_by_name:
            raise RouteError(f"{method.full_name}: its answer has no field {route.response_body}")
