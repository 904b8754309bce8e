"""gRPC's reflection service, in both of its versions. Its streams do not occupy threads."""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as messages

from datas3t.server.errors import Failure
from datas3t.server.front.rpc import health
from datas3t.server.front.rpc.messages import parsed, receive

_V1, _V1ALPHA = "grpc.reflection.v1", "grpc.reflection.v1alpha"
_V1_FILE = "grpc/reflection/v1/reflection.proto"
SERVICES = tuple(f"{package}.ServerReflection" for package in (_V1, _V1ALPHA))


class Reflection:
    """Responds to queries about the services of the contract and the standard ones.

    grpcio's own servicer supports only v1alpha, and does not find methods by their names.
    """

    def __init__(self, services: Sequence[str], idle_seconds: float) -> None:
        self._services = sorted([*services, health.SERVICE, *SERVICES])
        self._idle_seconds = idle_seconds
        self._pool = _pool_with_v1()

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of both versions."""
        return [health.standard_handler(name, {"ServerReflectionInfo": self._serve_stream}) for name in SERVICES]

    async def _serve_stream(self, context: Any) -> None:
        while True:
            try:
                received = await receive(context, self._idle_seconds)
            except Failure:
                return  # the client has ended the stream, or sent nothing for too long
            response = self._respond(parsed(messages.ServerReflectionRequest, received))
            await context.write(response.SerializeToString())

    def _respond(self, request: messages.ServerReflectionRequest) -> messages.ServerReflectionResponse:
        response = messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
        try:
            self._fill(response, request)
        except KeyError:
            _set_error(response, grpc.StatusCode.NOT_FOUND, "there is no such symbol, file or extension")
        return response

    def _fill(self, response: messages.ServerReflectionResponse, request: messages.ServerReflectionRequest) -> None:
        """Set the result in `response`. Raise KeyError if the symbol, file or extension does not exist."""
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            response.list_services_response.service.extend(
                messages.ServiceResponse(name=name) for name in self._services
            )
        elif kind == "file_by_filename":
            _set_files(response, self._pool.FindFileByName(request.file_by_filename))
        elif kind == "file_containing_symbol":
            _set_files(response, self._file_of(request.file_containing_symbol))
        elif kind == "file_containing_extension":
            query = request.file_containing_extension
            extended = self._pool.FindMessageTypeByName(query.containing_type)
            extension: Any = self._pool.FindExtensionByNumber(extended, query.extension_number)
            _set_files(response, extension.file)
        elif kind == "all_extension_numbers_of_type":
            extended = self._pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            numbers = response.all_extension_numbers_response
            numbers.base_type_name = extended.full_name
            numbers.extension_number.extend(sorted(each.number for each in self._pool.FindAllExtensions(extended)))
        else:
            _set_error(response, grpc.StatusCode.INVALID_ARGUMENT, "the request contains no query")

    def _file_of(self, symbol: str) -> FileDescriptor:
        """Return the file of a symbol. Members, such as methods, are not in the pool, so find their parent."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, member = symbol.rpartition(".")
            file = self._pool.FindFileContainingSymbol(parent)
            if not self._has_member(parent, member):
                raise
            return file

    def _has_member(self, parent: str, member: str) -> bool:
        for find, members in (
            (self._pool.FindServiceByName, "methods_by_name"),
            (self._pool.FindMessageTypeByName, "fields_by_name"),
            (self._pool.FindMessageTypeByName, "oneofs_by_name"),
            (self._pool.FindEnumTypeByName, "values_by_name"),
        ):
            try:
                if member in getattr(find(parent), members):
                    return True
            except KeyError:
                continue
        return False


def _set_files(response: messages.ServerReflectionResponse, file: FileDescriptor) -> None:
    """Set a file and everything that it imports as the result."""
    files: dict[str, FileDescriptor] = {}
    _collect(file, files)
    for each in files.values():
        proto = descriptor_pb2.FileDescriptorProto()
        each.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _collect(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    files[file.name] = file
    for each in file.dependencies:
        if each.name not in files:
            _collect(each, files)


def _set_error(response: messages.ServerReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = message


def _pool_with_v1() -> descriptor_pool.DescriptorPool:
    """Return the default pool, with a file for reflection v1 that is made from that of v1alpha."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        messages.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = _V1_FILE, _V1
        for field in (field for message in file.message_type for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(f".{_V1ALPHA}.", f".{_V1}.")
        for method in (method for service in file.service for method in service.method):
            method.input_type = method.input_type.replace(f".{_V1ALPHA}.", f".{_V1}.")
            method.output_type = method.output_type.replace(f".{_V1ALPHA}.", f".{_V1}.")
        pool.AddSerializedFile(file.SerializeToString())
    return pool
