"""Tokens of an OIDC provider: JWTs whose signature, issuer, audience and times are checked, and their claims."""

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jwt

from datas3t import v1
from datas3t.server.access.authenticator import refused
from datas3t.server.access.identity import ROLES, Identity
from datas3t.server.access.patterns import ALL, Pattern, PatternError
from datas3t.server.access.provider import ProviderKeys
from datas3t.server.settings import OidcSettings

# The algorithms that are accepted, each with the keys that it is for. No others: `none` needs no key, and with HS256 a
# public key would be the secret.
_KEYS = {
    **{f"RS{bits}": ("RSA", None) for bits in (256, 384, 512)},
    **{f"ES{bits}": ("EC", curve) for bits, curve in ((256, "secp256r1"), (384, "secp384r1"), (512, "secp521r1"))},
    "EdDSA": ("OKP", None),
}
_LEEWAY = 60  # seconds by which clocks may differ
_KEPT_SECONDS = 4.0  # for which a token is not checked again
_MAX_KEPT = 10_000
_MAX_NAME = 255  # characters of a subject
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class _Checked(NamedTuple):
    identity: Identity
    until: float


class Oidc:
    """Recognizes callers by tokens of a provider. Any thread may use it.

    Args:
        settings: The provider, and the claims that say what a caller may do.
        keys: The keys of the provider.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(
        self, settings: OidcSettings, keys: ProviderKeys | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._keys = keys or ProviderKeys(settings.issuer)
        self._clock = clock
        self._lock = threading.Lock()
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()

    def identify(self, text: str) -> Identity | None:
        """Return who has a token, or None if the text is not a JWT.

        Raises:
            Failure: TOKEN_REFUSED or PROVIDER_UNAVAILABLE.
        """
        if not _JWT.fullmatch(text):
            return None
        digest = hashlib.sha256(text.encode()).digest()
        now = self._clock()
        with self._lock:
            checked = self._checked.get(digest)
        if checked is not None and now < checked.until:
            return checked.identity
        claims = self._claims(text)
        identity = self._identity(claims)
        left = claims["exp"] + _LEEWAY - time.time()
        with self._lock:
            self._checked.pop(digest, None)
            self._checked[digest] = _Checked(identity, now + min(_KEPT_SECONDS, left))
            if len(self._checked) > _MAX_KEPT:
                self._checked.popitem(last=False)
        return identity

    def _claims(self, text: str) -> dict[str, Any]:
        """Return the claims of a token whose signature and whose times are right."""
        try:
            header = jwt.get_unverified_header(text)
            algorithm, key_id = str(header.get("alg")), header.get("kid")
            kind, curve = _KEYS.get(algorithm, ("", None))
            if not kind:
                raise refused("the token has an algorithm that is not accepted")
            key = self._keys.find(key_id)
            if key is None or key.key_type != kind or (curve and key.key.curve.name != curve):
                raise refused("the token has a key that the OIDC provider does not have")
            claims: dict[str, Any] = jwt.decode(
                text,
                key.key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise refused("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise refused("the token is for another audience") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise refused("the token is not a valid one of the OIDC provider") from None
        if not isinstance(claims["exp"], (int, float)):
            raise refused("the token is not a valid one of the OIDC provider")
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        """Return what the claims say. Who has no role or no pattern may do nothing."""
        settings = self._settings
        named = [ROLES[each] for each in _texts(_claim(claims, settings.role_claim)) if each in ROLES]
        role = max(named, default=v1.ROLE_UNSPECIFIED)
        pattern = ALL
        if settings.pattern_claim and role < v1.ROLE_ADMIN:
            pattern = _pattern(_texts(_claim(claims, settings.pattern_claim)))
            if not pattern.globs:
                role = v1.ROLE_UNSPECIFIED
        subject = claims.get("sub")
        name = subject[:_MAX_NAME] if isinstance(subject, str) else ""
        return Identity("oidc", role, pattern, name, expires_at=datetime.fromtimestamp(claims["exp"], UTC))


def _claim(claims: dict[str, Any], name: str) -> Any:
    """Return a claim by its name, or by names with dots between them one inside the other; None if it is missing."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _texts(value: Any) -> list[str]:
    """Return the texts of a claim that is one or a list of them."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _pattern(globs: list[str]) -> Pattern:
    valid: list[str] = []
    for glob in globs:
        try:
            valid += Pattern((glob,)).globs
        except PatternError:
            continue
    return Pattern(tuple(valid))
