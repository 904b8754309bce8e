"""The REST routes, read from the protos: google.api.http with its additional bindings, and our option rest_method."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from urllib.parse import quote

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Service
from datas3t.server.front.calls.guarded import OPEN, Guard, GuardedMethod
from datas3t.server.front.rest import codec

_RAW = "google.api.HttpBody"
RAW_TYPE = "application/octet-stream"  # of an HttpBody that does not say another
# Characters of an unknown path that an error shows as they are (RFC 3986). The others, which could change a terminal's
# state or break a line of a log, are percent-encoded.
_UNQUOTED = "/:@!$&'()*+,;=[]"
_MAX_SHOWN_PATH = 200
_MAX_SHOWN_VERB = 20


class RouteError(TypeError):
    """The protos have a route that this server cannot serve, or the same route twice. Raised when the server starts."""


@dataclass(frozen=True)
class Route:
    """One HTTP verb and path, and the method that it calls."""

    verb: str
    path: str
    guarded: GuardedMethod
    request: type[Message]
    has_body: bool
    response_body: str  # the name of the one field that is the whole response, or ""
    success: int  # the HTTP status

    @cached_property
    def name(self) -> str:
        """The method's name as in gRPC: `datas3t.v1.Service/Method`."""
        return self.guarded.name

    @cached_property
    def method(self) -> MethodDescriptor:
        """The method."""
        return self.guarded.descriptor

    @cached_property
    def raw(self) -> bool:
        """Whether the response is an HttpBody: bytes with a content type, not JSON."""
        return str(self.method.output_type.full_name) == _RAW


class Routes:
    """All routes, by path and verb."""

    def __init__(self, services: Sequence[Service], guard: Guard = OPEN) -> None:
        self.guard = guard
        self._by_path: dict[str, dict[str, Route]] = {}
        for service in services:
            for method in service.descriptor.methods:
                for route in _routes(GuardedMethod(guard, service, method)):
                    self._add(route)

    def __iter__(self) -> Iterator[Route]:
        return (route for verbs in self._by_path.values() for route in verbs.values())

    def find(self, verb: str, path: str) -> Route:
        """Return the route; HEAD has the route of GET.

        Raises:
            Failure: ROUTE_NOT_FOUND, or METHOD_NOT_ALLOWED if the path has routes for other verbs only.
        """
        verbs = self._by_path.get(path)
        if verbs is None:
            shown = quote(path[:_MAX_SHOWN_PATH], safe=_UNQUOTED, errors="replace")
            raise Failure(
                v1.ERROR_REASON_ROUTE_NOT_FOUND, f"no route has the path {shown}; see docs/api.md", path=shown
            )
        route = verbs.get("GET" if verb == "HEAD" else verb)
        if route is None:
            raise method_not_allowed(path, verb, [*verbs, *(["HEAD"] if "GET" in verbs else [])])
        return route

    def _add(self, route: Route) -> None:
        verbs = self._by_path.setdefault(route.path, {})
        if (other := verbs.setdefault(route.verb, route)) is not route:
            raise RouteError(f"{route.verb} {route.path} is a route of both {other.name} and {route.name}")


def method_not_allowed(path: str, verb: str, allowed: Iterable[str]) -> Failure:
    """Return the failure for a verb that the path does not take."""
    listed = ", ".join(sorted(allowed))
    message = f"{path} takes {listed}, not {verb[:_MAX_SHOWN_VERB]}"
    return Failure(v1.ERROR_REASON_METHOD_NOT_ALLOWED, message, path=path, allowed=listed)


def _routes(guarded: GuardedMethod) -> list[Route]:
    method = guarded.descriptor
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    success = options.Extensions[v1.rest_method].success or HTTPStatus.OK
    routes = [_route(binding, guarded, success) for binding in (rule, *rule.additional_bindings)]
    _check(method, routes)
    return routes


def _route(rule: http_pb2.HttpRule, guarded: GuardedMethod, success: int) -> Route:
    method = guarded.descriptor
    verb = rule.WhichOneof("pattern") or ""
    if verb not in ("get", "put", "post", "delete", "patch") or rule.body not in ("", "*"):
        raise RouteError(f"{method.full_name}: a route must have a plain verb, and `*` or nothing as its body")
    path = str(getattr(rule, verb))
    if "{" in path or not path.startswith("/"):
        raise RouteError(f"{method.full_name}: the path {path} must not have variables; use the query or the body")
    return Route(
        verb.upper(),
        path,
        guarded,
        GetMessageClass(method.input_type),
        rule.body == "*",
        rule.response_body,
        success,
    )


def _check(method: MethodDescriptor, routes: Sequence[Route]) -> None:
    """Raise if JSON cannot hold the method's messages, so that the server fails at start and not at the first call."""
    if method.client_streaming:
        raise RouteError(f"{method.full_name}: a method with a stream of requests cannot have a route")
    codec.check(method.input_type)
    if not routes[0].raw:
        codec.check(method.output_type)
    for route in routes:
        if route.response_body and route.response_body not in method.output_type.fields_by_name:
            raise RouteError(f"{method.full_name}: its response has no field {route.response_body}")
