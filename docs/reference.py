"""Generate docs/api.md and docs/errors.md from the protos and their comments."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2 as pb
from google.rpc import code_pb2

from datas3t import v1
from datas3t.server.datas3ts import not_found
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import error_body, failure_status, http_status

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "proto"))
from lint import describe  # noqa: E402 - a script in proto/, which is not a package

_LABEL_REPEATED = pb.FieldDescriptorProto.LABEL_REPEATED
_WITH_NAME = (pb.FieldDescriptorProto.TYPE_MESSAGE, pb.FieldDescriptorProto.TYPE_ENUM)

_API = """\
# API reference

<!-- made by `make gen` from proto/; do not edit it by hand -->

gRPC and REST share one address. The gRPC package is `datas3t.v1`, and server reflection is enabled. Over REST the names
below are the JSON names, 64-bit integers are JSON numbers (in requests they may be quoted), and fields marked *gRPC* do
not exist. `GET /openapi.json` describes the REST routes in OpenAPI 3.1.

The role of a method is what a caller needs at least where the server runs with `--auth tokens`: read < write < manage <
admin. [access.md](access.md) says how callers get it.

Each method lists its own errors; [errors.md](errors.md) explains them. Any call may also fail with
DATABASE_UNAVAILABLE, CALL_TOO_LONG, SERVER_BUSY, SHUTTING_DOWN or INTERNAL, any call that uses a bucket with
CREDENTIALS_UNREADABLE, any call to a server that asks for tokens with TOKEN_MISSING, TOKEN_REFUSED, ACCESS_DENIED or
PROVIDER_UNAVAILABLE, and a REST request with MALFORMED_REQUEST, UNKNOWN_FIELD, BODY_TOO_LARGE, CONTENT_ENCODING,
CROSS_SITE, ROUTE_NOT_FOUND or METHOD_NOT_ALLOWED.
"""

_ERRORS = """\
# Errors

<!-- made by `make gen` from proto/datas3t/v1/errors.proto; do not edit it by hand -->

Every error carries a `google.rpc.ErrorInfo` with the domain `datas3t` and one of these reasons. All variable parts of
the message are also in its `metadata`. Over REST the response body has the same content:

```json
EXAMPLE
```

In the SDK the reason is the exception's `reason`. Programs must use the reason or the code, never the message.

| reason | gRPC | HTTP | what happened, and what to do next |
|---|---|---|---|"""


class Comments:
    """The comments of a proto file, by descriptor path."""

    def __init__(self, file: pb.FileDescriptorProto) -> None:
        """Read the comments of a descriptor that has them."""
        self._by_path = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def at(self, *path: int) -> str:
        """Return the comment at a path, with the lines of each paragraph joined."""
        paragraphs = re.split(r"\n\s*\n", self._by_path.get(path, "").strip())
        return "\n\n".join(" ".join(line.strip() for line in part.splitlines()) for part in paragraphs)


def files() -> list[pb.FileDescriptorProto]:
    """Return the descriptors of our proto files, with comments."""
    with tempfile.NamedTemporaryFile() as out:
        describe(Path(out.name))
        described = pb.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    return [file for file in described.file if file.package == "datas3t.v1"]


def api() -> str:
    """Return the API reference: every service, method, route, message and field."""
    lines = [_API]
    everything = files()
    for file in everything:
        comments = Comments(file)
        for number, service in enumerate(file.service):
            lines += [f"## {service.name}", "", comments.at(6, number), ""]
            for position, method in enumerate(service.method):
                lines += _method(method, comments.at(6, number, 2, position))
    lines += ["## Messages", ""]
    for file in everything:
        if file.name.rpartition("/")[2] not in ("access.proto", "http.proto", "errors.proto"):
            lines += _messages(file, Comments(file))
    return "\n".join(lines).rstrip() + "\n"


def _method(method: pb.MethodDescriptorProto, comment: str) -> Iterator[str]:
    yield from (f"### {method.name}", "", comment, "")
    stream = "stream of " if method.server_streaming else ""
    yield f"- gRPC: {_link(method.input_type)} → {stream}{_link(method.output_type)}"
    access = method.options.Extensions[v1.access]
    role = v1.Role.Name(access.role).removeprefix("ROLE_").lower()
    yield f"- Role: {role}{_SCOPES[access.WhichOneof('scope')].format(access.datas3t_field or access.id_field)}"
    rule = method.options.Extensions[annotations_pb2.http]
    success = method.options.Extensions[v1.rest_method].success or 200
    bindings = [rule, *rule.additional_bindings] if rule.WhichOneof("pattern") else []
    for binding in bindings:
        verb = str(binding.WhichOneof("pattern"))
        answer = f"{success}, `{binding.response_body}` alone" if binding.response_body else str(success)
        yield f"- REST: `{verb.upper()} {getattr(binding, verb)}` → {answer}"
    yield ""


_SCOPES = {
    "datas3t_field": ", for the datas3t in `{}`",
    "id_field": ", for the datas3t of `{}`",
    "matching": ", for the datas3ts that the pattern matches",
    "none": "",
}


def _messages(file: pb.FileDescriptorProto, comments: Comments) -> Iterator[str]:
    for number, message in enumerate(file.message_type):
        if not message.field and not comments.at(4, number):
            continue
        yield from (f"### {message.name}", "")
        if comment := comments.at(4, number):
            yield from (comment, "")
        if message.field:
            yield from ("| field | type | |", "|---|---|---|")
        for position, field in enumerate(message.field):
            yield f"| `{field.name}` | {_type(field)} | {_notes(field)}{comments.at(4, number, 2, position)} |"
        yield ""


def _type(field: pb.FieldDescriptorProto) -> str:
    name = _link(field.type_name) if field.type in _WITH_NAME else _scalar(field)
    if field.label == _LABEL_REPEATED:
        return f"{name} list"
    return f"{name}, optional" if field.proto3_optional else name


def _scalar(field: pb.FieldDescriptorProto) -> str:
    return pb.FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _notes(field: pb.FieldDescriptorProto) -> str:
    rest = field.options.Extensions[v1.rest_field]
    return "*gRPC.* " if rest.grpc_only else "*Omitted when empty.* " if rest.leave_out_empty else ""


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})" if type_name.startswith(".datas3t.") else f"`{type_name.lstrip('.')}`"


def errors() -> str:
    """Return the table of reasons: gRPC code, HTTP status, what happened and what to do next."""
    example = json.dumps(error_body(failure_status(not_found("images"))), indent=2)
    lines = [_ERRORS.replace("EXAMPLE", example)]
    (file,) = (file for file in files() if file.name.endswith("/errors.proto"))
    comments = Comments(file)
    for position, value in enumerate(file.enum_type[0].value):
        rule = value.options.Extensions[v1.rule]
        code = code_pb2.Code.Name(rule.code)
        if value.number:
            name = value.name.removeprefix("ERROR_REASON_")
            http = http_status(failure_status(Failure(value.number, "")))
            lines.append(f"| `{name}` | {code} | {http} | {comments.at(5, 0, 2, position)} |")
    return "\n".join(lines) + "\n"
