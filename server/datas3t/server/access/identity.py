"""Identities: who a caller is, and what it may do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from datas3t import v1
from datas3t.server.access.patterns import ALL, Pattern

Kind = Literal["off", "token", "admin_token", "oidc"]

ROLES = {"read": v1.ROLE_READ, "write": v1.ROLE_WRITE, "manage": v1.ROLE_MANAGE, "admin": v1.ROLE_ADMIN}
_NAMES = {number: name for name, number in ROLES.items()}


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: how it was recognized, its name, and what it may do.

    `token_id` is 0 for other kinds than `token`.
    """

    kind: Kind
    role: v1.Role.ValueType
    pattern: Pattern = ALL
    name: str = ""
    token_id: int = 0
    expires_at: datetime | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the role is that of an admin."""
        return self.role >= v1.ROLE_ADMIN


EVERYONE = Identity("off", v1.ROLE_ADMIN)  # every caller of a server that asks nobody for a token


def role_name(role: v1.Role.ValueType) -> str:
    """Return the name of a role as callers write it, or `none`."""
    return _NAMES.get(role, "none")
