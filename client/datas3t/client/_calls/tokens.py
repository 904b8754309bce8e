"""Operations on tokens, as methods of the client."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from datas3t import v1
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import pages
from datas3t.client.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just created.

    Attributes:
        text: What callers show. It cannot be asked for again, and the repr does not show it.
        id: Its id.
        expires_at: When it expires; None: it does not.
    """

    text: str = field(repr=False)
    id: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its text.

    Attributes:
        id: Its id.
        name: Its name.
        role: What it may do: "read", "write", "manage" or "admin".
        pattern: Which datas3ts it is for: a glob on their names.
        created_at: When it was created.
        expires_at: When it expires or has expired; None: it does not.
        last_used_at: When it was used last, to 5 minutes; None: never.
        revoked_at: When it was revoked; None: it was not.
    """

    id: int
    name: str
    role: str
    pattern: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server takes a client for.

    Attributes:
        kind: How it was recognized: "off" (the server asks nobody), "token", "admin_token" or "oidc".
        name: The name of the token, or the subject that the OIDC provider names; empty if nobody is asked.
        token_id: The id of the token; None if it is not one that was created.
        role: What the client may do.
        patterns: The globs on the names of datas3ts, of which any has to match.
        expires_at: When the token expires; None: it does not.
    """

    kind: str
    name: str
    token_id: int | None
    role: str
    patterns: tuple[str, ...]
    expires_at: datetime | None


class TokenMethods(ABC):
    """The part of `Client` that creates, lists and revokes tokens, and asks who this client is."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """This process's gRPC channel with the generated stubs."""

    def create_token(
        self, name: str, *, role: str, pattern: str | None = None, ttl_seconds: float | None = None
    ) -> NewToken:
        """Create a token, with which callers show who they are to a server that runs with `--auth tokens`.

        Args:
            name: 1 to 255 letters, digits, "_", ".", "@" and "-". No other token that works has it.
            role: What it may do: "read", "write", "manage" or "admin".
            pattern: Which datas3ts it is for: a glob on their names. None: all.
            ttl_seconds: After how many seconds it expires. None: it does not.

        Raises:
            AlreadyExists: Another token has this name.
            InvalidArgument: A value is not allowed.
            PermissionDenied: This client is no admin.
            FailedPrecondition: The server asks nobody for a token.
        """
        check_text(name=name, role=role, pattern=pattern)
        if ttl_seconds is not None and ttl_seconds < 1:
            raise InvalidArgument(f"ttl_seconds is {ttl_seconds}; it must be at least 1, or None")
        request = v1.CreateTokenRequest(name=name, role=role, pattern=pattern, ttl_seconds=int(ttl_seconds or 0))
        created = self.connection.token.CreateToken(request)
        return NewToken(created.token, created.token_id, _time(created.expires_at))

    def list_tokens(self) -> list[Token]:
        """Return all tokens, also those that were revoked or have expired, in the order of their creation.

        Raises:
            PermissionDenied: This client is no admin.
        """
        return list(self._tokens())

    def revoke_token(self, name: str) -> None:
        """Revoke a token: all servers refuse it within 5 seconds. Revoking it again changes nothing.

        Raises:
            NotFound: There is no token of that name.
            PermissionDenied: This client is no admin.
        """
        check_text(name=name)
        self.connection.token.RevokeToken(v1.RevokeTokenRequest(name=name))

    def whoami(self) -> Identity:
        """Return who the server takes this client for, and what it may do.

        Raises:
            Unauthenticated: The server asks for a token, and there is none or it is refused.
        """
        who = self.connection.token.WhoAmI(v1.WhoAmIRequest())
        return Identity(who.kind, who.name, who.token_id or None, who.role, tuple(who.patterns), _time(who.expires_at))

    def _tokens(self) -> Iterator[Token]:
        stub = self.connection.token
        for page in pages(lambda token: stub.ListTokens(v1.ListTokensRequest(page_token=token))):
            for each in page.tokens:
                yield Token(
                    each.token_id,
                    each.name,
                    each.role,
                    each.pattern,
                    datetime.fromisoformat(each.created_at),
                    _time(each.expires_at),
                    _time(each.last_used_at),
                    _time(each.revoked_at),
                )


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
