"""The description of the REST routes in OpenAPI 3.1, from the same routes and field options that serve them."""

import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from datas3t import v1
from datas3t.server.access import role_name
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import failure_status, http_status
from datas3t.server.front.rest import codec
from datas3t.server.front.rest.routes import RAW_TYPE, Route, Routes

_ABOUT = (
    "Made from the protos of the package datas3t.v1. Most calls have two routes, which do the same. Integers are JSON "
    "numbers, also those with 64 bits; in requests they have neither fraction nor exponent, and may be quoted. In "
    "requests null counts as absent, and any Content-Type will do. HEAD works wherever GET does. Every response has "
    "the header x-request-id. docs/api.md describes each call and lists its errors; docs/errors.md explains them."
)
# The database's integers have 63 bits, so responses hold no larger ones and requests with larger ones fail.
_HIGHEST = 2**63 - 1
# Reasons that no request for a described route receives.
_ELSEWHERE = {
    v1.ERROR_REASON_UNSPECIFIED,
    v1.ERROR_REASON_ROUTE_NOT_FOUND,
    v1.ERROR_REASON_METHOD_NOT_ALLOWED,
    v1.ERROR_REASON_CALLER_LEFT,
}
_ERROR = {
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "string", "description": "The name of the gRPC status code."},
        "message": {"type": "string", "description": "For people: what happened and what to do next."},
        "details": {"type": "array", "items": {"$ref": "#/components/schemas/ErrorInfo"}},
    },
}
_ERROR_INFO = {
    "type": "object",
    "description": "A google.rpc.ErrorInfo.",
    "required": ["@type", "reason", "domain"],
    "properties": {
        "@type": {"type": "string"},
        "reason": {"type": "string", "description": "For programs: why the call failed."},
        "domain": {"type": "string"},
        "metadata": {
            "type": "object",
            "description": "Every variable part of the message.",
            "additionalProperties": {"type": "string"},
        },
    },
}
_RETRY_AFTER = {
    "description": "Seconds to wait before the next attempt.",
    "schema": {"type": "integer"},
    "required": True,
}


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `datas3t token create`. docs/access.md describes roles and patterns.",
}
_WWW_AUTHENTICATE = {"description": "The scheme of tokens.", "schema": {"const": "Bearer"}, "required": True}
_SCOPES = {
    "datas3t_field": " It is about the datas3t in `{}`, whose name the caller's pattern must match.",
    "id_field": " It is about the datas3t that `{}` belongs to, whose name the caller's pattern must match.",
    "matching": " It is about the datas3ts whose names the caller's pattern matches.",
    "none": "",
}


def described(routes: Routes) -> bytes:
    """Return the document as JSON."""
    schemas: dict[str, Any] = {"Error": _ERROR, "ErrorInfo": _ERROR_INFO}
    paths: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for route in routes:
        is_first = route.name not in seen
        seen.add(route.name)
        paths.setdefault(route.path, {})[route.verb.lower()] = _operation(route, schemas, is_first=is_first)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "datas3t",
            "version": version("datas3t"),
            "description": _ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": _error_responses()},
    }
    if any(route.guarded.guard.identify for route in routes):
        document["components"]["securitySchemes"] = {"token": _TOKEN}
        document["security"] = [{"token": []}]
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _operation(route: Route, schemas: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
    """Describe a route. Ids must differ, so the second route of a method has an id with a number."""
    operation: dict[str, Any] = {
        "operationId": route.method.name if is_first else f"{route.method.name}2",
        "summary": _words(route.method.name),
        "description": _needs(route),
        "tags": [route.method.containing_service.name],
    }
    if route.has_body:
        content = {"application/json": {"schema": _reference(route.method.input_type, schemas, is_request=True)}}
        operation["requestBody"] = {"required": True, "content": content}
    elif fields := codec.visible(route.method.input_type):
        operation["parameters"] = [_parameter(field) for field in fields]
    errors = {status: {"$ref": f"#/components/responses/Error{status}"} for status in _reasons()}
    operation["responses"] = {str(route.success): _success(route, schemas), **errors}
    return operation


def _needs(route: Route) -> str:
    """Return what a caller needs where the server asks for tokens."""
    guarded = route.guarded
    scope = _SCOPES[guarded.access.WhichOneof("scope") or "none"].format(guarded.field)
    return f"With `--auth tokens` it needs the role {role_name(guarded.role)}.{scope}"


def _parameter(field: FieldDescriptor) -> dict[str, Any]:
    return {"name": field.name, "in": "query", "required": _is_required(field), "schema": _scalar(field)}


def _success(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(route.success).phrase}
    output = route.method.output_type
    if route.raw:
        response["content"] = {RAW_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    elif route.success != HTTPStatus.NO_CONTENT:
        if route.response_body:
            schema = _response_field(output.fields_by_name[route.response_body], schemas)
        else:
            schema = _reference(output, schemas, is_request=False)
        response["content"] = {"application/json": {"schema": schema}}
    return response


def _reference(message: Descriptor, schemas: dict[str, Any], *, is_request: bool) -> dict[str, Any]:
    """Return a reference to the message's schema, which is added to `schemas` if it is not among them."""
    name = f"{message.name.removesuffix('Request')}Request" if is_request else message.name
    if name not in schemas:
        schemas[name] = {}  # a message may have fields of its own type
        schemas[name] = _request(message, schemas) if is_request else _response(message, schemas)
    return {"$ref": f"#/components/schemas/{name}"}


def _request(message: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    fields = codec.visible(message)
    return {
        "type": "object",
        "required": [field.name for field in fields if _is_required(field)],
        "properties": {field.name: _request_field(field, schemas) for field in fields},
        "additionalProperties": False,
    }


def _is_required(field: FieldDescriptor) -> bool:
    """Return whether requests must have the field: absent text is empty text, which no name or key may be."""
    return bool(field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and not field.has_presence)


def _request_field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        item = _reference(field.message_type, schemas, is_request=True)
    else:
        item = _scalar(field)
    forms = [{"type": "array", "items": item} if field.is_repeated else item]
    if field.type in codec.INTEGERS and not field.is_repeated:
        forms.append({"type": "string", "pattern": f"^{codec.INTEGER.pattern}$"})
    if not _is_required(field):
        forms.append({"type": "null"})
    return {"anyOf": forms} if len(forms) > 1 else forms[0]


def _response(message: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    fields = codec.visible(message)
    always = [field.name for field in fields if not field.has_presence and not codec.option(field).leave_out_empty]
    return {
        "type": "object",
        "required": always,
        "properties": {field.name: _response_field(field, schemas) for field in fields},
    }


def _response_field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        item = _reference(field.message_type, schemas, is_request=False)
    else:
        item = _scalar(field)
    return {"type": "array", "items": item} if field.is_repeated else item


def _scalar(field: FieldDescriptor) -> dict[str, Any]:
    if field.type in codec.INTEGERS:
        lowest, highest = codec.INTEGERS[field.type]
        width = "int32" if field.type == FieldDescriptor.TYPE_INT32 else "int64"
        return {"type": "integer", "format": width, "minimum": lowest, "maximum": min(highest, _HIGHEST)}
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return {"type": "number", "format": "double"}
    return {"type": "boolean" if field.type == FieldDescriptor.TYPE_BOOL else "string"}


@cache
def _reasons() -> Mapping[str, list[str]]:
    """Return the reasons of the contract by the HTTP status that they have."""
    reasons: dict[str, list[str]] = {}
    for value in v1.ErrorReason.DESCRIPTOR.values:
        if value.number not in _ELSEWHERE:
            status = failure_status(Failure(v1.ErrorReason.ValueType(value.number), ""))
            reasons.setdefault(str(http_status(status)), []).append(value.name.removeprefix("ERROR_REASON_"))
    return dict(sorted(reasons.items()))


def _error_responses() -> dict[str, Any]:
    return {f"Error{status}": _error_response(int(status), reasons) for status, reasons in _reasons().items()}


def _error_response(status: int, reasons: list[str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}, for one of these reasons: {', '.join(reasons)}",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    if status == HTTPStatus.UNAUTHORIZED:
        response["headers"] = {"WWW-Authenticate": _WWW_AUTHENTICATE}
    return response


def _words(name: str) -> str:
    """Return a method's name as words: `Add bucket` for AddBucket."""
    return " ".join(re.findall("[A-Z][a-z0-9]*", name)).capitalize()
