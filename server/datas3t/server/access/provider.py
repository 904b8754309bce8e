"""The keys of an OIDC provider: fetched over https from where its discovery document says, and kept."""

import asyncio
import contextlib
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from datas3t import v1
from datas3t.server.call import current
from datas3t.server.errors import Failure

_DISCOVERY = "/.well-known/openid-configuration"
_SECONDS = 5.0  # for both documents together
_CLOSE_SECONDS = 0.05  # for aborted connections to be closed before their event loop is
_MAX_SIZE = 512 << 10  # bytes of a document
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_INTERVAL = 60.0  # seconds between two attempts, so that tokens with invented keys cause no requests
_FRESH_SECONDS = 300.0  # after which keys are fetched again when one is used, so that one that was withdrawn goes
_MAX_WAITING = 16  # calls that wait for keys; each has a thread

_log = logging.getLogger(__name__)


class ProviderError(Exception):
    """The provider's keys cannot be had. The message says why, in one line without a secret."""


Fetch = Callable[[str], Mapping[str, jwt.PyJWK]]


class ProviderKeys:
    """The keys of a provider by their ids. Any thread may use it.

    Args:
        issuer: The URL of the provider.
        fetch: Returns the keys of a provider, or raises ProviderError.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(self, issuer: str, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._changed = threading.Condition()
        self._keys: Mapping[str, jwt.PyJWK] | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = False
        self._waiting = 0

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key with an id, or the only key if a token names none; None if the provider has none.

        Raises:
            Failure: PROVIDER_UNAVAILABLE if the keys cannot be had now.
        """
        with self._changed:
            key = self._known(key_id)
            if key is None or self._clock() - self._fetched >= _FRESH_SECONDS:
                self._start_fetching()
            if key is None and self._fetching:
                self._wait()
                key = self._known(key_id)
            if self._keys is None:
                raise _unavailable()
            return key

    def _known(self, key_id: str | None) -> jwt.PyJWK | None:
        keys = self._keys or {}
        if key_id is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(key_id)

    def _start_fetching(self) -> None:
        if not self._fetching and self._clock() - self._tried >= _INTERVAL:
            self._fetching, self._tried = True, self._clock()
            threading.Thread(target=self._run, name="oidc keys", daemon=True).start()

    def _wait(self) -> None:
        """Wait for the keys. The call's slot is free in the meantime, as while it waits for S3."""
        if self._waiting >= _MAX_WAITING:
            raise _unavailable()
        call = current()
        self._waiting += 1
        call.release_slot()
        try:
            self._changed.wait_for(lambda: not self._fetching, _SECONDS + 1)
        finally:
            call.take_slot()
            self._waiting -= 1

    def _run(self) -> None:
        keys: Mapping[str, jwt.PyJWK] | None = None
        try:
            keys = self._fetch(self._issuer)
        except ProviderError as error:
            _log.warning("the keys of the OIDC provider %s cannot be had: %s", self._issuer, error)
        finally:
            with self._changed:
                if keys is not None:
                    self._keys, self._fetched = keys, self._clock()
                self._fetching = False
                self._changed.notify_all()


def fetch_keys(issuer: str) -> Mapping[str, jwt.PyJWK]:
    """Fetch the keys of a provider that can be used for signatures. Raises ProviderError."""
    import aiohttp  # noqa: PLC0415 - only for servers with a provider

    try:
        document = asyncio.run(_fetched(issuer))
    except TimeoutError:
        raise ProviderError(f"it did not answer within {_SECONDS:.0f} seconds") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ProviderError(type(error).__name__) from None
    return usable_keys(document)


async def _fetched(issuer: str) -> Any:
    try:
        return await _fetch_document(issuer)
    finally:
        await asyncio.sleep(_CLOSE_SECONDS)


async def _fetch_document(issuer: str) -> Any:
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with (
        asyncio.timeout(_SECONDS),
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
    ):
        discovered = await _fetch_json(session, issuer.rstrip("/") + _DISCOVERY)
        if not isinstance(discovered, dict) or discovered.get("issuer") != issuer:
            raise ProviderError("its discovery document names another issuer")
        url = discovered.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith("https://"):
            raise ProviderError("its discovery document names no keys at an https:// URL")
        return await _fetch_json(session, url)


async def _fetch_json(session: Any, url: str) -> Any:
    async with session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response:
        try:
            if response.status != 200:
                raise ProviderError(f"it answered with the status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_SIZE:
                    raise ProviderError(f"its answer has more than {_MAX_SIZE} bytes")
        finally:
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()  # the rest of the answer is not waited for
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProviderError("its answer is not JSON") from None


def usable_keys(document: Any) -> Mapping[str, jwt.PyJWK]:
    """Return the keys of a JWKS document by their ids. Those that are not for signatures are left out.

    Raises:
        ProviderError: The document has no such key, or too many.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ProviderError(f"its keys are not a list of at most {_MAX_KEYS}")
    keys: dict[str, jwt.PyJWK] = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or each.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        # What the provider sends may be of any shape; a key that cannot be read is as one that is not there.
        with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError, KeyError):
            key = jwt.PyJWK({name: value for name, value in each.items() if name != "alg"})
            if each["kty"] != "RSA" or key.key.key_size >= _MIN_RSA_BITS:
                key_id = each.get("kid", "")
                keys[key_id if isinstance(key_id, str) else ""] = key
    if not keys:
        raise ProviderError("it has no key for signatures")
    return keys


def _unavailable() -> Failure:
    message = "the keys of the OIDC provider cannot be had, so tokens of it cannot be checked; try again shortly"
    return Failure(v1.ERROR_REASON_PROVIDER_UNAVAILABLE, message)
