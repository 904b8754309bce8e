"""Tokens: their text, and creating, listing and revoking them."""

import hashlib
import re
import secrets
import string
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import values
from datas3t.server.access.identity import ROLES
from datas3t.server.access.patterns import Pattern, PatternError
from datas3t.server.db import api_tokens, pool
from datas3t.server.db.api_tokens import ApiToken
from datas3t.server.db.pool import Pool
from datas3t.server.errors import Failure

_ALPHABET = string.digits + string.ascii_letters
_SECRET_LENGTH = 43  # of 62 characters each: 256 bits
_TEXT = re.compile(rf"d3t_([1-9][0-9]{{0,18}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})")
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,255}")
_MAX_SECONDS = 100 * 365 * 24 * 3600
_MAX_PAGE = 1000


class Parsed(NamedTuple):
    """The parts of a token's text."""

    token_id: int
    secret: str

    def __repr__(self) -> str:
        return f"Parsed({self.token_id})"


def parse(text: str) -> Parsed | None:
    """Return the parts of a token's text, or None if it is not one."""
    found = _TEXT.fullmatch(text)
    return Parsed(int(found[1]), found[2]) if found and int(found[1]) <= MAX_KEY else None


def hashed(secret: str) -> bytes:
    """Return what is stored of a secret. It has 256 random bits, so one round of a hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def create(connections: Pool, name: str, role: str, pattern: str, ttl_seconds: int) -> tuple[str, ApiToken]:
    """Create a token, and return its text, which is not stored, and its row.

    Raises:
        Failure: INVALID_VALUE or TOKEN_EXISTS.
    """
    _check(name, role, pattern, ttl_seconds)
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    lifetime = timedelta(seconds=ttl_seconds) if ttl_seconds else None
    with pool.transaction(connections, token=name) as conn:
        api_tokens.release_name(conn, name)
        row = api_tokens.insert(conn, name, hashed(secret), role, pattern or "*", lifetime)
    return f"d3t_{row.id}_{secret}", row


def page(connections: Pool, size: int, token: str) -> tuple[Sequence[ApiToken], str]:
    """Return tokens in the order of their ids, and the token of the next page, which is empty after the last."""
    if not 0 <= size <= _MAX_PAGE:
        raise values.invalid("page_size", f"is {size}, but a page has 1 to {_MAX_PAGE}")
    if not re.fullmatch("[0-9]{0,18}", token):
        raise values.invalid("page_token", "is not the next_page_token of an earlier page")
    size = size or _MAX_PAGE
    with pool.connection(connections) as conn:
        rows = api_tokens.page(conn, int(token or "0"), size + 1)
    return rows[:size], str(rows[size - 1].id) if len(rows) > size else ""


def revoke(connections: Pool, name: str) -> int | None:
    """Revoke the token with this name, and return its id; None if it was revoked before.

    Raises:
        Failure: INVALID_VALUE or TOKEN_NOT_FOUND.
    """
    _check_name(name)
    with pool.connection(connections) as conn:
        revoked = api_tokens.revoke(conn, name)
        if revoked is None and not api_tokens.exists(conn, name):
            message = f"there is no token {name!r}; list the tokens"
            raise Failure(v1.ERROR_REASON_TOKEN_NOT_FOUND, message, token=name)
    return revoked


def _check(name: str, role: str, pattern: str, ttl_seconds: int) -> None:
    _check_name(name)
    if not role:
        raise values.missing("role")
    if role not in ROLES:
        raise values.invalid("role", f"is not one of {', '.join(ROLES)}")
    if pattern:
        try:
            Pattern((pattern,))
        except PatternError as error:
            raise values.invalid("pattern", str(error)) from None
    if role == "admin" and pattern not in ("", "*"):
        raise values.invalid("pattern", "must be * for an admin, who may do everything; leave it out")
    if ttl_seconds > _MAX_SECONDS:
        raise values.invalid("ttl_seconds", f"is {ttl_seconds}, but at most {_MAX_SECONDS} are allowed; 0 is no end")


def _check_name(name: str) -> None:
    if not name:
        raise values.missing("name")
    if not _NAME.fullmatch(name):
        raise values.invalid("name", "must be 1 to 255 letters, digits, - _ . or @")
