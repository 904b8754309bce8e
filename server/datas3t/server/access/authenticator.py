"""Recognizes callers by the token that they send: one of the database, the admin token of the settings, or a JWT."""

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from datas3t import v1
from datas3t.server.access import tokens
from datas3t.server.access.identity import ROLES, Identity
from datas3t.server.access.patterns import Pattern
from datas3t.server.db import api_tokens, pool
from datas3t.server.db.api_tokens import Credential
from datas3t.server.db.pool import Pool
from datas3t.server.errors import Failure

# A revoked token must be refused within 5 seconds. What the database has said is used for 4, and after 2 one of the
# calls that use it asks again, so that most calls of a busy token never wait for the database.
_FRESH_SECONDS = 2.0
_MAX_SECONDS = 4.0
_MAX_KNOWN = 10_000  # tokens of which that is remembered
_MAX_UNKNOWN = 10_000  # ids that no token has; they cannot drive the others out

_USE_INTERVAL = timedelta(minutes=5)  # between two writes of when a token was used last
_CLOSE_SECONDS = 1.0  # for a write to end
_NOBODY = bytes(32)  # what the secret is compared with if no token has the id

_SCHEME = "bearer"


@dataclass(slots=True)
class _Entry:
    """What the database has said about an id: `asked` is when, by the monotonic clock, and so are the other times."""

    asked: float
    expires: float = float("inf")
    used: float = float("-inf")
    refreshing: bool = False
    is_revoked: bool = False
    identity: Identity | None = None  # None if no token has the id
    secret_sha256: bytes = field(default=_NOBODY, repr=False)


class Authenticator:
    """Recognizes callers. Any thread may use it.

    Args:
        connections: The database with the tokens.
        admin_token: The admin token of the settings, or empty.
        jwt: Returns the identity of a JWT, or None if the text is not one; None without an OIDC provider.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(
        self,
        connections: Pool,
        admin_token: str = "",
        jwt: Callable[[str], Identity | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._admin_sha256 = hashlib.sha256(admin_token.encode()).digest() if admin_token else None
        self._jwt = jwt
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Entry] = OrderedDict()
        self._unknown: OrderedDict[int, _Entry] = OrderedDict()
        self._uses = _Uses(connections)

    def identify(self, authorization: str | None) -> Identity:
        """Return who sends this `authorization`, the value of a header or of metadata.

        Raises:
            Failure: TOKEN_MISSING, TOKEN_REFUSED, or what keeps the server from finding out.
        """
        text = _token_of(authorization)
        parsed = tokens.parse(text)
        if parsed is not None:
            return self._by_id(parsed.token_id, parsed.secret)
        identity = self._jwt(text) if self._jwt is not None else None
        return identity or self._as_admin(text)

    def forget(self, token_id: int | None) -> None:
        """Ask the database again about a token that this server has created or revoked."""
        if token_id is not None:
            with self._lock:
                self._known.pop(token_id, None)
                self._unknown.pop(token_id, None)

    def close(self) -> None:
        """Wait a moment until the uses of tokens are written."""
        self._uses.close()

    def _as_admin(self, text: str) -> Identity:
        given = hashlib.sha256(text.encode()).digest()
        if hmac.compare_digest(given, self._admin_sha256 or _NOBODY) and self._admin_sha256 is not None:
            return Identity("admin_token", v1.ROLE_ADMIN, name="ADMIN_TOKEN")
        raise refused("the token is not one that this server knows")

    def _by_id(self, token_id: int, secret: str) -> Identity:
        entry = self._entry(token_id)
        is_right = hmac.compare_digest(tokens.hashed(secret), entry.secret_sha256)
        if not is_right or entry.identity is None:
            raise refused("the token is not one that this server knows")
        now = self._clock()
        if entry.is_revoked:
            raise refused("the token was revoked")
        if now >= entry.expires:
            raise refused("the token has expired")
        if now - entry.used > _USE_INTERVAL.total_seconds():
            entry.used = now
            self._uses.note(token_id)
        return entry.identity

    def _entry(self, token_id: int) -> _Entry:
        """Return what the database says about an id, or what it has said a moment ago."""
        now = self._clock()
        with self._lock:
            entry = self._known.get(token_id) or self._unknown.get(token_id)
            if entry is not None and now - entry.asked < _MAX_SECONDS:
                if now - entry.asked < _FRESH_SECONDS or entry.refreshing or entry.identity is None:
                    return entry
                entry.refreshing = True
        asked = _asked(now, self._fetched(token_id, entry))
        with self._lock:
            self._known.pop(token_id, None)
            self._unknown.pop(token_id, None)
            kept, most = (self._unknown, _MAX_UNKNOWN) if asked.identity is None else (self._known, _MAX_KNOWN)
            kept[token_id] = asked
            if len(kept) > most:
                kept.popitem(last=False)
        return asked

    def _fetched(self, token_id: int, stale: _Entry | None) -> Credential | None:
        try:
            with pool.connection(self._connections) as conn:
                return api_tokens.credential(conn, token_id)
        finally:
            if stale is not None:
                stale.refreshing = False  # if this has failed, the next call asks again


def refused(why: str) -> Failure:
    """Return TOKEN_REFUSED."""
    return Failure(v1.ERROR_REASON_TOKEN_REFUSED, f"{why}; ask an administrator for another one")


def _token_of(authorization: str | None) -> str:
    scheme, _, text = (authorization or "").partition(" ")
    text = text.strip()
    if not text or scheme.lower() != _SCHEME:
        message = (
            "the call needs a token: set DATAS3T_TOKEN, run `datas3t login`, or send the header"
            " `Authorization: Bearer <token>`"
        )
        raise Failure(v1.ERROR_REASON_TOKEN_MISSING, message)
    if not text.isascii():
        raise refused("the token is not one that this server knows")
    return text


def _asked(now: float, row: Credential | None) -> _Entry:
    """Return the entry for what the database, asked `now` by the monotonic clock, has said."""
    if row is None:
        return _Entry(now)
    return _Entry(
        now,
        expires=float("inf") if row.time_left is None else now + row.time_left.total_seconds(),
        used=float("-inf") if row.unused_for is None else now - row.unused_for.total_seconds(),
        is_revoked=row.is_revoked,
        identity=Identity("token", ROLES[row.role], Pattern((row.pattern,)), row.name, row.id, row.expires_at),
        secret_sha256=bytes(row.secret_sha256),
    )


class _Uses:
    """Writes when tokens were used last, in a thread that exists only while there is something to write."""

    def __init__(self, connections: Pool) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._noted: set[int] = set()
        self._thread: threading.Thread | None = None

    def note(self, token_id: int) -> None:
        """Have it written that a token was used now."""
        with self._lock:
            self._noted.add(token_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="uses of tokens", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait a moment until all is written."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._lock:
                ids, self._noted = self._noted, set()
                if not ids:
                    self._thread = None
                    return
            try:
                with pool.connection(self._connections) as conn:
                    api_tokens.record_use(conn, sorted(ids), _USE_INTERVAL)
            except Failure:  # the pool has logged it; a later use is written
                continue
