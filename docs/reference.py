"""docs/api.md and docs/errors.md, out of the protos and their comments."""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2 as pb
from google.rpc import code_pb2

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import http_status, status_of

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "proto"))
from lint import describe  # noqa: E402 - a script beside the protos, not a package

_LABEL_REPEATED = pb.FieldDescriptorProto.LABEL_REPEATED
_WITH_NAME = (pb.FieldDescriptorProto.TYPE_MESSAGE, pb.FieldDescriptorProto.TYPE_ENUM)


class Comments:
    """The comments of a proto file, by the path of what they stand on."""

    def __init__(self, file: pb.FileDescriptorProto) -> None:
        self._by_path = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def at(self, *path: int) -> str:
        """The comment there, its lines joined into paragraphs."""
        paragraphs = re.split(r"\n\s*\n", self._by_path.get(path, "").strip())
        return "\n\n".join(" ".join(line.strip() for line in part.splitlines()) for part in paragraphs)


def files() -> list[pb.FileDescriptorProto]:
    """Our proto files, with their comments."""
    with tempfile.NamedTemporaryFile() as out:
        describe(Path(out.name))
        described = pb.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    return [file for file in described.file if file.package == "datas3t.v1"]


def api() -> str:
    """The API reference: every service, method, route, message and field."""
    lines = ["# API reference", "", "<!-- made by `make gen` out of proto/; edits here are lost -->", ""]
    lines += [
        "gRPC and REST answer on the same address. The package is `datas3t.v1`; reflection is on. Over REST a field's",
        "name here is its JSON name; 64-bit integers are JSON numbers; fields marked *gRPC* are no part of it.",
        "Errors: [errors.md](errors.md).",
        "",
    ]
    everything = files()
    for file in everything:
        comments = Comments(file)
        for number, service in enumerate(file.service):
            lines += [f"## {service.name}", "", comments.at(6, number), ""]
            for position, method in enumerate(service.method):
                lines += _method(method, comments.at(6, number, 2, position))
    lines += ["## Messages", ""]
    for file in everything:
        if file.name.rpartition("/")[2] not in ("http.proto", "errors.proto"):
            lines += _messages(file, Comments(file))
    return "\n".join(lines).rstrip() + "\n"


def _method(method: pb.MethodDescriptorProto, comment: str) -> Iterator[str]:
    yield from (f"### {method.name}", "", comment, "")
    stream = "stream of " if method.server_streaming else ""
    yield f"- gRPC: {_link(method.input_type)} → {stream}{_link(method.output_type)}"
    rule = method.options.Extensions[annotations_pb2.http]
    success = method.options.Extensions[v1.rest_method].success or 200
    bindings = [rule, *rule.additional_bindings] if rule.WhichOneof("pattern") else []
    for binding in bindings:
        verb = str(binding.WhichOneof("pattern"))
        answer = f"{success}, `{binding.response_body}` alone" if binding.response_body else str(success)
        yield f"- REST: `{verb.upper()} {getattr(binding, verb)}` → {answer}"
    yield ""


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
    return "*gRPC.* " if rest.grpc_only else "*Left out when empty.* " if rest.leave_out_empty else ""


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})" if type_name.startswith(".datas3t.") else f"`{type_name.lstrip('.')}`"


def errors() -> str:
    """The table of reasons: gRPC code, HTTP status, what happened and what to do."""
    lines = [
        "# Errors",
        "",
        "<!-- made by `make gen` out of proto/datas3t/v1/errors.proto; edits here are lost -->",
        "",
    ]
    lines += [
        "Every failed call carries a `google.rpc.ErrorInfo` with domain `datas3t` and one of these reasons; everything",
        "variable in the message is in its `metadata`. Over REST the same stands in the body:",
        "",
        "```json",
        '{"code": "NOT_FOUND", "message": "no datas3t is named \'images\'; add it, or list those there are",',
        ' "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "DATAS3T_NOT_FOUND",',
        '              "domain": "datas3t", "metadata": {"datas3t": "images"}}]}',
        "```",
        "",
        "In the SDK the reason is the error's `reason`. Programs go by the reason or the code, never by the message.",
        "",
        "| reason | gRPC | HTTP | what happened, what to do |",
        "|---|---|---|---|",
    ]
    (file,) = (file for file in files() if file.name.endswith("/errors.proto"))
    comments = Comments(file)
    for position, value in enumerate(file.enum_type[0].value):
        rule = value.options.Extensions[v1.rule]
        code = code_pb2.Code.Name(rule.code)
        if value.number:
            name = value.name.removeprefix("ERROR_REASON_")
            http = http_status(status_of(Failure(value.number, "")))
            lines.append(f"| `{name}` | {code} | {http} | {comments.at(5, 0, 2, position)} |")
    return "\n".join(lines) + "\n"
