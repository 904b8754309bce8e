"""The one place that decides who may call what. gRPC and REST reach servicers only through a `GuardedMethod`.

What a method needs is an option of the contract (access.proto).
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from datas3t import v1
from datas3t.server import values
from datas3t.server.access import EVERYONE, Identity, role_name
from datas3t.server.db.listings import JsonPage
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Context, Origin, Service

# Returns the name of the datas3t that an id belongs to; raises the failure of calls with an id that does not exist.
Owner = Callable[[int], str]
# Returns the failure of calls with an id that does not exist.
NotFound = Callable[[int], Failure]


class AccessError(TypeError):
    """A method of the contract does not say what it needs. Raised when the server starts."""


class Guard:
    """Who is let in.

    Args:
        identify: Returns the identity of a caller by its `authorization`, or raises a failure. None lets everyone in.
        owners: For each field with an id, how to find the datas3t of an id, and the failure for one that is foreign.
    """

    def __init__(
        self,
        identify: Callable[[str | None], Identity] | None = None,
        owners: Mapping[str, tuple[Owner, NotFound]] | None = None,
    ) -> None:
        self.identify = identify
        self.owners = owners or {}


OPEN = Guard()


class GuardedMethod:
    """A method of a servicer behind its check.

    Raises:
        AccessError: The contract does not say what the method needs, or names a field that requests do not have.
    """

    def __init__(self, guard: Guard, service: Service, method: MethodDescriptor) -> None:
        self.descriptor = method
        self.guard = guard
        self.name = f"{service.descriptor.full_name}/{method.name}"
        self.access = access = method.GetOptions().Extensions[v1.access]
        scope = access.WhichOneof("scope")
        if access.role == v1.ROLE_UNSPECIFIED or scope is None:
            raise AccessError(f"{self.name} has no role or no scope; add the option `access` to its proto")
        self.role = access.role
        self.field = access.datas3t_field or access.id_field
        self.owner = guard.owners.get(access.id_field) if access.id_field else None
        if self.field and self.field not in method.input_type.fields_by_name:
            raise AccessError(f"{self.name}: its request has no field {self.field}")
        if access.id_field and guard.identify is not None and self.owner is None:
            raise AccessError(f"{self.name}: nobody knows the datas3t of a {self.field}")
        self._call = getattr(service.servicer, method.name)
        self._json_page = getattr(service.servicer, f"{method.name}AsJson", None)

    @property
    def has_json_pages(self) -> bool:
        """Whether the method is a listing whose pages the database writes as JSON."""
        return self._json_page is not None

    def admitted(self, origin: Origin) -> "Admission":
        """Return a context in which a caller may use the method."""
        return Admission(self, origin, self._call, self._json_page)


class Admission:
    """A context in which one caller may use one method. It is entered before the request is parsed.

    Raises:
        Failure: TOKEN_MISSING, TOKEN_REFUSED or ACCESS_DENIED when it is entered.
    """

    __slots__ = ("_call", "_context", "_json_page", "_method", "_origin")

    def __init__(
        self,
        method: GuardedMethod,
        origin: Origin,
        call: Callable[[Any, Any], Any],
        json_page: Callable[[Any, Any], JsonPage] | None,
    ) -> None:
        self._method = method
        self._origin = origin
        self._call = call
        self._json_page = json_page

    def __enter__(self) -> Self:
        method = self._method
        identify = method.guard.identify
        identity = EVERYONE if identify is None else identify(self._origin.authorization)
        if identity.role < method.role:
            raise _role_too_low(method, identity)
        self._context = Context(identity)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        return None

    def call(self, request: Message) -> Any:
        """Call the method. Raises ACCESS_DENIED, or the failure for an unknown id, if the datas3t is a foreign one."""
        self._check_datas3t(request)
        return self._call(request, self._context)

    def json_page(self, request: Message) -> JsonPage:
        """Return a page of the listing as JSON. Raises as `call` does."""
        assert self._json_page is not None
        self._check_datas3t(request)
        return self._json_page(request, self._context)

    def _check_datas3t(self, request: Message) -> None:
        """Compare the datas3t of the call with the caller's pattern, whether it exists or not."""
        method, identity = self._method, self._context.identity
        if not method.field or identity.pattern.matches_all:
            return
        given = getattr(request, method.field)
        if method.owner is not None:
            find_name, not_found = method.owner
            if not identity.pattern.matches(find_name(given)):
                raise not_found(given)
        elif not identity.pattern.matches(values.name(method.field, given)):
            raise _foreign(method, identity, given)


def _role_too_low(method: GuardedMethod, identity: Identity) -> Failure:
    needed, has = role_name(method.role), role_name(identity.role)
    message = f"the call needs the role {needed}, and the token has {has}; ask an administrator for one with {needed}"
    return Failure(v1.ERROR_REASON_ACCESS_DENIED, message, role=needed, token_role=has)


def _foreign(method: GuardedMethod, identity: Identity, name: str) -> Failure:
    needed, pattern = role_name(method.role), str(identity.pattern)
    message = (
        f"the token is for datas3ts whose names match {pattern}, so not for {name!r}; ask an administrator for one with"
        f" the role {needed} and a pattern such as {name}"
    )
    return Failure(
        v1.ERROR_REASON_ACCESS_DENIED,
        message,
        role=needed,
        token_role=role_name(identity.role),
        datas3t=name,
        token_pattern=pattern,
    )
