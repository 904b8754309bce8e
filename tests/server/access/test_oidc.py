"""Tokens of an OIDC provider of our own: what is accepted, what is refused, and how its keys are fetched."""

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from datas3t import v1
from datas3t.server.access import provider
from datas3t.server.access.oidc import Oidc
from datas3t.server.access.provider import ProviderError, ProviderKeys, fetch_keys, usable_keys
from datas3t.server.errors import Failure
from datas3t.server.settings import OidcSettings, SettingsError
from tests.support.certificates import Authority

ISSUER = "https://login.example.com"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SETTINGS = OidcSettings(ISSUER, "datas3t")


def jwks(**keys: Any) -> dict[str, Any]:
    """Return a JWKS document with the public halves of keys, by their ids."""
    listed = []
    for key_id, key in keys.items():
        kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        kind = OKPAlgorithm if isinstance(key, ed25519.Ed25519PrivateKey) else kind
        listed.append({**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig"})
    return {"keys": listed}


class Provider:
    """A provider whose keys can be changed, without a network, and a clock that stands still."""

    def __init__(self) -> None:
        self.document = jwks(rsa=RSA, ec=EC, ed=ED)
        self.fetched = 0
        self.fails = False
        self.now = 1_000.0
        self.keys = ProviderKeys(ISSUER, self.fetch, lambda: self.now)

    def fetch(self, issuer: str) -> Mapping[str, jwt.PyJWK]:
        self.fetched += 1
        if self.fails:
            raise ProviderError("it is away")
        return usable_keys(self.document)

    def oidc(self, settings: OidcSettings = SETTINGS) -> Oidc:
        return Oidc(settings, self.keys, lambda: self.now)


@pytest.fixture
def own() -> Provider:
    return Provider()


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", headers: Any = None, **claims: Any) -> str:
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": "datas3t", "exp": now + 600, "sub": "ann", "datas3t_role": "write", **claims}
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, key, algorithm, {**({"kid": kid} if kid else {}), **(headers or {})})


def refused(call: Callable[[], object], reason: str = "TOKEN_REFUSED") -> str:
    with pytest.raises(Failure) as raised:
        call()
    assert v1.ErrorReason.Name(raised.value.reason) == f"ERROR_REASON_{reason}"
    return raised.value.message


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "RS512", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")],
)
def test_a_token_of_the_provider_is_recognized(own: Provider, key: Any, algorithm: str, kid: str) -> None:
    identity = own.oidc().identify(token(key, algorithm, kid))
    assert identity is not None
    assert (identity.kind, identity.name, identity.role) == ("oidc", "ann", v1.ROLE_WRITE)
    assert identity.pattern.matches_all
    assert own.fetched == 1


def test_what_is_no_jwt_is_left_to_others(own: Provider) -> None:
    assert own.oidc().identify("d3t_1_x") is None
    assert own.fetched == 0


def _hs256_with_the_public_key() -> str:
    """A token signed with the text of the public key as the secret of HS256."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body = (
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
        for each in ({"alg": "HS256", "kid": "rsa"}, {"iss": ISSUER, "aud": "datas3t", "exp": int(time.time()) + 600})
    )
    signature = hmac.new(pem, head + b"." + body, hashlib.sha256).digest()
    return (head + b"." + body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _with_header(**header: Any) -> str:
    _, body, signature = token().split(".")
    return ".".join([base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode(), body, signature])


@pytest.mark.parametrize(
    "sent",
    [
        jwt.encode({"iss": ISSUER, "aud": "datas3t", "exp": 2**40}, "", "none", {"kid": "rsa"}),
        token().rpartition(".")[0] + ".",
        _hs256_with_the_public_key(),
        token(OTHER_RSA),
        token(EC, "ES256", "rsa"),
        token(RSA, "RS256", "ec"),
        token(RSA, "PS256"),
        token(RSA, kid="unknown"),
        token(RSA, kid=None),
        token(RSA, kid="../../rsa' OR 1=1 --"),
        _with_header(alg="RS256", kid={"a": 1}),
        _with_header(alg=["RS256"], kid="rsa"),
        _with_header(alg="RS256"),
        _with_header(alg="RS256", kid="rsa", crit=["exp"], exp=1),
        token(OTHER_RSA, headers={"jwk": jwks(x=OTHER_RSA)["keys"][0], "jku": "https://evil.example.com/jwks"}),
        token(exp=None),
        token(iss=None),
        token(aud=None),
        token(iss="https://evil.example.com"),
        token(aud="another"),
        token(exp=int(time.time()) - 70),
        token(nbf=int(time.time()) + 3_600),
        token(iat=int(time.time()) + 3_600),
        token(exp="soon"),
        "a.b.c",
        "W1tb.W10.AA",
    ],
)
def test_a_token_that_is_not_right_is_refused_and_not_repeated(own: Provider, sent: str) -> None:
    message = refused(lambda: own.oidc().identify(sent))
    assert sent not in message


def test_clocks_may_differ_by_a_minute(own: Provider) -> None:
    now = int(time.time())
    assert own.oidc().identify(token(exp=now - 30, nbf=now + 50, iat=now + 50))


@pytest.mark.parametrize(
    ("claims", "role", "globs"),
    [
        ({"datas3t_role": "read"}, v1.ROLE_READ, ()),
        ({"datas3t_role": ["read", "manage", "root"], "globs": "a*"}, v1.ROLE_MANAGE, ("a*",)),
        ({"datas3t_role": "write", "globs": ["a*", "b", "not a glob", 7]}, v1.ROLE_WRITE, ("a*", "b")),
        ({"datas3t_role": "admin"}, v1.ROLE_ADMIN, ("*",)),
        ({"datas3t_role": "root", "globs": "*"}, v1.ROLE_UNSPECIFIED, ("*",)),
        ({"datas3t_role": None, "globs": "*"}, v1.ROLE_UNSPECIFIED, ("*",)),
        ({"datas3t_role": {"a": 1}, "globs": "*"}, v1.ROLE_UNSPECIFIED, ("*",)),
    ],
)
def test_claims_say_what_a_caller_may_do(
    own: Provider, claims: dict[str, Any], role: int, globs: tuple[str, ...]
) -> None:
    settings = OidcSettings(ISSUER, "datas3t", pattern_claim="globs")
    identity = own.oidc(settings).identify(token(**claims))
    assert identity is not None
    assert identity.pattern.globs == globs
    assert identity.role == (role if globs else v1.ROLE_UNSPECIFIED)


def test_a_claim_may_lie_inside_another_one(own: Provider) -> None:
    settings = OidcSettings(ISSUER, "datas3t", role_claim="realm_access.roles")
    identity = own.oidc(settings).identify(token(realm_access={"roles": ["manage"]}))
    assert identity is not None
    assert identity.role == v1.ROLE_MANAGE


def test_a_new_key_is_fetched_and_invented_ones_only_once_a_minute(own: Provider) -> None:
    oidc = own.oidc()
    oidc.identify(token())
    own.document = jwks(new=OTHER_RSA)
    refused(lambda: oidc.identify(token(OTHER_RSA, kid="new")))
    assert own.fetched == 1
    own.now += 61
    assert oidc.identify(token(OTHER_RSA, kid="new"))
    for number in range(50):
        refused(lambda: oidc.identify(token(OTHER_RSA, kid=f"invented{number}")))  # noqa: B023
    assert own.fetched == 2
    refused(lambda: oidc.identify(token(sub="another")))  # whose key was withdrawn


def test_while_the_provider_is_away_known_keys_count_and_a_new_server_says_so(own: Provider) -> None:
    oidc = own.oidc()
    oidc.identify(token())
    own.fails = True
    own.now += 10_000
    assert oidc.identify(token())
    fresh = Provider()
    fresh.fails = True
    refused(lambda: fresh.oidc().identify(token()), "PROVIDER_UNAVAILABLE")
    refused(lambda: fresh.oidc().identify(token()), "PROVIDER_UNAVAILABLE")
    assert fresh.fetched == 1


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]},
     {"keys": [{"kty": "RSA"}]}, {"keys": [7, None]}, {"keys": [{}] * 101}, jwks(small=SMALL_RSA)],
)  # fmt: skip
def test_a_document_without_a_key_for_signatures_is_an_error(document: Any) -> None:
    with pytest.raises(ProviderError):
        usable_keys(document)


@pytest.mark.parametrize(
    "issuer", ["http://login.example.com", "https://", "https://user:pw@host", "https://host?x=1", "x"]
)
def test_an_issuer_that_cannot_be_one_is_refused(issuer: str) -> None:
    with pytest.raises(SettingsError):
        OidcSettings(issuer, "datas3t")


class _Site(BaseHTTPRequestHandler):
    """A provider's pages, over TLS: what each path answers, and after which time."""

    pages: dict[str, Callable[["_Site"], None]]

    def do_GET(self) -> None:
        if self.path in self.pages:
            self.pages[self.path](self)
        else:
            self.answer(b"", 404)

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, Callable[[_Site], None]]]]:
    authority = Authority()
    files = authority.pair(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.write(tmp_path / "ca.pem")))
    pages: dict[str, Callable[[_Site], None]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Site", (_Site,), {"pages": pages}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}", pages
    server.shutdown()
    server.server_close()
    thread.join()


Pages = dict[str, Callable[[_Site], None]]
DISCOVERY = "/.well-known/openid-configuration"


def _discovery(url: str, keys: str = "/keys") -> Callable[[_Site], None]:
    body = json.dumps({"issuer": url, "jwks_uri": keys if "://" in keys else url + keys}).encode()
    return lambda site: site.answer(body)


def test_keys_are_fetched_over_https_from_where_the_discovery_document_says(site: tuple[str, Pages]) -> None:
    url, pages = site
    pages[DISCOVERY] = _discovery(url)
    pages["/keys"] = lambda site: site.answer(json.dumps(jwks(rsa=RSA)).encode())
    oidc = Oidc(OidcSettings(url, "datas3t"))
    identity = oidc.identify(token(iss=url))
    assert identity is not None
    assert identity.name == "ann"


def _trickle(site: _Site) -> None:
    """Answer without an end, a byte at a time."""
    site.send_response(200)
    site.end_headers()
    with contextlib.suppress(OSError):
        while True:
            site.wfile.write(b" ")
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("discovery", "keys", "why"),
    [
        (lambda site: site.answer(b"", 302, "https://localhost:1/"), None, "status 302"),
        (lambda site: site.answer(b"{}"), None, "another issuer"),
        (lambda site: site.answer(b"[" * 100_000), None, "not JSON"),
        (None, lambda site: site.answer(b" " * ((512 << 10) + 1)), "more than"),
        (None, lambda site: site.answer(b"", 500), "status 500"),
        (None, _trickle, "did not answer within"),
    ],
    ids=["redirect", "issuer", "nested", "huge", "error", "endless"],
)
def test_a_provider_that_answers_something_else_is_an_error_in_time(
    site: tuple[str, Pages], monkeypatch: pytest.MonkeyPatch, discovery: Any, keys: Any, why: str
) -> None:
    url, pages = site
    monkeypatch.setattr(provider, "_SECONDS", 5.0 if keys is not _trickle else 0.5)
    pages[DISCOVERY] = discovery or _discovery(url)
    pages["/keys"] = keys
    with pytest.raises(ProviderError, match=why):
        fetch_keys(url)


def test_keys_over_http_are_not_fetched(site: tuple[str, Pages]) -> None:
    url, pages = site
    pages[DISCOVERY] = _discovery(url, url.replace("https", "http") + "/keys")
    with pytest.raises(ProviderError, match="https"):
        fetch_keys(url)


def test_a_certificate_that_is_not_trusted_is_an_error(
    site: tuple[str, Pages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ProviderError):
        fetch_keys(site[0])
