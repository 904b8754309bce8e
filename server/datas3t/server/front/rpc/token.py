"""TokenService: translates messages, and calls the functions that do the work."""

from datetime import UTC, datetime
from typing import Any

from datas3t import v1
from datas3t.server.access import Authenticator, Identity, role_name, tokens
from datas3t.server.db.api_tokens import ApiToken
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.v1.token_pb2_grpc import TokenServiceServicer


class TokenServicer(TokenServiceServicer):
    """`authenticator` is None if the server asks nobody for a token."""

    def __init__(self, resources: Resources, authenticator: Authenticator | None) -> None:
        self._resources = resources
        self._authenticator = authenticator

    def CreateToken(self, request: v1.CreateTokenRequest, _: Any) -> v1.CreateTokenResponse:
        authenticator = self._asking()
        text, row = tokens.create(
            self._resources.pool, request.name, request.role, request.pattern, request.ttl_seconds
        )
        authenticator.forget(row.id)
        return v1.CreateTokenResponse(token=text, token_id=row.id, expires_at=_shown(row.expires_at))

    def ListTokens(self, request: v1.ListTokensRequest, _: Any) -> v1.ListTokensResponse:
        self._asking()
        rows, next_token = tokens.page(self._resources.pool, request.page_size, request.page_token)
        return v1.ListTokensResponse(tokens=[_token(row) for row in rows], next_page_token=next_token)

    def RevokeToken(self, request: v1.RevokeTokenRequest, _: Any) -> v1.RevokeTokenResponse:
        authenticator = self._asking()
        authenticator.forget(tokens.revoke(self._resources.pool, request.name))
        return v1.RevokeTokenResponse()

    def WhoAmI(self, _: v1.WhoAmIRequest, context: Any) -> v1.WhoAmIResponse:
        identity: Identity = context.identity
        return v1.WhoAmIResponse(
            kind=identity.kind,
            name=identity.name,
            token_id=identity.token_id,
            role=role_name(identity.role),
            patterns=identity.pattern.globs,
            expires_at=_shown(identity.expires_at),
        )

    def _asking(self) -> Authenticator:
        """Raise AUTH_OFF if the server asks nobody: anyone could create a token that works once it asks."""
        if self._authenticator is None:
            message = "the server asks nobody for a token, so it manages none; start it with --auth tokens"
            raise Failure(v1.ERROR_REASON_AUTH_OFF, message)
        return self._authenticator


def _token(row: ApiToken) -> v1.Token:
    return v1.Token(
        token_id=row.id,
        name=row.name,
        role=row.role,
        pattern=row.pattern,
        created_at=_shown(row.created_at),
        expires_at=_shown(row.expires_at),
        last_used_at=_shown(row.last_used_at),
        revoked_at=_shown(row.revoked_at),
    )


def _shown(time: datetime | None) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time else ""
