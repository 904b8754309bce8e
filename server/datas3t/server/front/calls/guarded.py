"""The one place that decides who may call what. gRPC and REST reach servicers only through a `GuardedMethod`.

What a method needs is an option of the contract (access.proto).
"""

import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2

from datas3t import v1
from datas3t.archive.names import datas3t_of, valid_name
from datas3t.server import values
from datas3t.server.access import EVERYONE, Audit, Identity, role_name
from datas3t.server.call import current
from datas3t.server.db.listings import JsonPage
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Context, Origin, Service
from datas3t.server.front.calls.failures import code_name, rule_of

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
        audit: Where calls are written down that change something or are refused, if anywhere.
    """

    def __init__(
        self,
        identify: Callable[[str | None], Identity] | None = None,
        owners: Mapping[str, tuple[Owner, NotFound]] | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.identify = identify
        self.owners = owners or {}
        self.audit = audit

    def note_refused(self, origin: Origin, failure: Failure) -> None:
        """Write down a request that was refused before it was known which method it calls."""
        code = rule_of(failure.reason).code
        if self.audit is not None and code in _REFUSED:
            self.audit.note(
                identity=None,
                method="none",
                transport=origin.transport,
                target="",
                datas3t="",
                request_id=origin.request_id,
                peer=origin.peer,
                outcome=code_name(code),
            )


OPEN = Guard()

_REFUSED = (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED)
_TARGETS = ("name", "bucket_name")  # fields with the name of what a call is about that is about no datas3t
_TARGET = re.compile("[A-Za-z0-9_.@-]{1,255}")


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
        options = method.GetOptions()
        self.changes = options.idempotency_level != options.NO_SIDE_EFFECTS
        self.target = next((name for name in _TARGETS if name in method.input_type.fields_by_name), "")
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

    __slots__ = ("_call", "_context", "_datas3t", "_is_foreign", "_json_page", "_method", "_origin", "_target")

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
        self._context: Context | None = None
        self._datas3t = self._target = ""
        self._is_foreign = False

    def __enter__(self) -> Self:
        method = self._method
        identify = method.guard.identify
        identity = None
        try:
            identity = EVERYONE if identify is None else identify(self._origin.authorization)
            if identity.role < method.role:
                raise _role_too_low(method, identity)
        except Exception as error:
            self._note(identity, error)
            raise
        self._context = Context(identity)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._method.guard.audit is not None and (self._method.changes or self._is_foreign or error is not None):
            self._note(self._context.identity if self._context else None, error)

    def _note(self, identity: Identity | None, error: BaseException | None) -> None:
        """Write the end of the call down, unless it was let in and can change nothing."""
        method, origin = self._method, self._origin
        code = code_pb2.OK if error is None else code_pb2.CANCELLED
        if isinstance(error, Exception):
            code = rule_of(error.reason).code if isinstance(error, Failure) else code_pb2.INTERNAL
        is_refused = code in _REFUSED or self._is_foreign
        if method.guard.audit is None or not (method.changes or is_refused):
            return
        outcome = code_name(code)
        if isinstance(error, Failure):
            outcome += f" {v1.ErrorReason.Name(error.reason).removeprefix('ERROR_REASON_')}"
        method.guard.audit.note(
            identity=identity,
            method=method.name,
            transport=origin.transport,
            target=self._target,
            datas3t=self._datas3t or _datas3t_of_call(),
            request_id=origin.request_id,
            peer=origin.peer,
            outcome=outcome,
        )

    def call(self, request: Message) -> Any:
        """Call the method. Raises ACCESS_DENIED, or the failure for an unknown id, if the datas3t is a foreign one."""
        self._check_datas3t(request)
        if self._method.guard.audit is not None:
            self._look_at(request)
        return self._call(request, self._context)

    def _look_at(self, request: Message) -> None:
        """Remember what the call is about, for the audit log."""
        method = self._method
        if method.field and method.owner is None:
            self._datas3t = str(getattr(request, method.field))
            self._datas3t = self._datas3t if valid_name(self._datas3t) else ""
        elif not method.field and method.target:
            target = str(getattr(request, method.target))
            self._target = target if _TARGET.fullmatch(target) else ""

    def json_page(self, request: Message) -> JsonPage:
        """Return a page of the listing as JSON. Raises as `call` does."""
        assert self._json_page is not None
        self._check_datas3t(request)
        return self._json_page(request, self._context)

    def _check_datas3t(self, request: Message) -> None:
        """Compare the datas3t of the call with the caller's pattern, whether it exists or not."""
        assert self._context is not None
        method, identity = self._method, self._context.identity
        if not method.field or identity.pattern.matches_all:
            return
        given = getattr(request, method.field)
        if method.owner is not None:
            find_name, not_found = method.owner
            self._datas3t = find_name(given)
            if not identity.pattern.matches(self._datas3t):
                self._is_foreign = True
                raise not_found(given)
        elif not identity.pattern.matches(values.name(method.field, given)):
            self._datas3t = given
            raise _foreign(method, identity, given)


def _datas3t_of_call() -> str:
    """Return the datas3t of the intent that the current call has looked up, or empty."""
    subject = current().subject
    return datas3t_of(subject) if subject else ""


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
