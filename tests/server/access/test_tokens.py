"""Tokens: creating, listing and revoking them, and what a server remembers of them."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from hmac import compare_digest
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server.access import Authenticator, authenticator, tokens
from datas3t.server.db import api_tokens
from datas3t.server.db.api_tokens import Credential
from datas3t.server.db.pool import Connection
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Origin
from datas3t.server.settings import AccessSettings
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from datas3t.server.resources import Resources

ADMIN_TOKEN = "admin-token-of-the-settings-of-tests"
Execute = Callable[..., list[tuple[object, ...]]]


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def execute(resources: "Resources") -> Execute:
    def run(statement: str, *values: object) -> list[tuple[object, ...]]:
        with resources.pool.connection() as conn:
            found = conn.execute(statement.encode(), values)
            return found.fetchall() if found.description else []

    return run


@pytest.fixture
def clock() -> "Clock":
    return Clock()


@pytest.fixture
def asking(resources: "Resources", clock: "Clock") -> Iterator[Authenticator]:
    opened = Authenticator(resources.pool, ADMIN_TOKEN, clock=clock)
    yield opened
    opened.close()


def create(resources: "Resources", name: str = "a", role: str = "read", pattern: str = "", ttl: int = 0) -> str:
    return tokens.create(resources.pool, name, role, pattern, ttl)[0]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(Failure) as raised:
        call()
    return v1.ErrorReason.Name(raised.value.reason).removeprefix("ERROR_REASON_")


def test_a_token_has_its_id_and_43_random_characters_of_which_a_hash_is_stored(
    resources: "Resources", execute: Execute
) -> None:
    text = create(resources)
    found = re.fullmatch(r"d3t_([0-9]+)_([0-9A-Za-z]{43})", text)
    assert found
    rows = execute("SELECT secret_sha256, to_jsonb(api_tokens)::text FROM api_tokens WHERE id = %s", int(found[1]))
    assert rows[0][0] == hashlib.sha256(found[2].encode()).digest()
    assert found[2] not in str(rows)
    assert create(resources, "b").rpartition("_")[2] != found[2]


@pytest.mark.parametrize(
    ("name", "role", "pattern", "ttl", "field"),
    [
        ("", "read", "", 0, "name"),
        ("a b", "read", "", 0, "name"),
        ("x" * 256, "read", "", 0, "name"),
        ("a", "", "", 0, "role"),
        ("a", "root", "", 0, "role"),
        ("a", "read", "a.b", 0, "pattern"),
        ("a", "admin", "a*", 0, "pattern"),
        ("a", "read", "", 2**63, "ttl_seconds"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(
    resources: "Resources", execute: Execute, name: str, role: str, pattern: str, ttl: int, field: str
) -> None:
    with pytest.raises(Failure) as raised:
        create(resources, name, role, pattern, ttl)
    assert (raised.value.reason, raised.value.metadata["field"]) == (v1.ERROR_REASON_INVALID_VALUE, field)
    assert execute("SELECT 1 FROM api_tokens") == []


def test_two_tokens_that_work_have_different_names(resources: "Resources", execute: Execute) -> None:
    create(resources)
    assert reason_of(lambda: create(resources)) == "TOKEN_EXISTS"
    execute("UPDATE api_tokens SET expires_at = now()")
    create(resources)  # the first has expired
    tokens.revoke(resources.pool, "a")
    create(resources)
    assert execute("SELECT count(*), count(revoked_at) FROM api_tokens") == [(3, 2)]


def test_tokens_are_listed_in_pages_with_those_that_were_revoked(resources: "Resources") -> None:
    for number in range(5):
        create(resources, f"t{number}")
    tokens.revoke(resources.pool, "t1")
    first, following = tokens.page(resources.pool, 3, "")
    last, end = tokens.page(resources.pool, 3, following)
    assert ([row.name for row in first], [row.name for row in last], end) == (["t0", "t1", "t2"], ["t3", "t4"], "")
    assert [row.name for row in first if row.revoked_at] == ["t1"]
    assert reason_of(lambda: tokens.page(resources.pool, 0, "x")) == "INVALID_VALUE"


def test_revoking_again_changes_nothing_and_an_unknown_name_is_not_found(resources: "Resources") -> None:
    create(resources)
    assert tokens.revoke(resources.pool, "a") is not None
    assert tokens.revoke(resources.pool, "a") is None
    assert reason_of(lambda: tokens.revoke(resources.pool, "b")) == "TOKEN_NOT_FOUND"


def test_a_token_is_recognized_with_its_role_and_pattern(resources: "Resources", asking: Authenticator) -> None:
    identity = asking.identify(f"Bearer {create(resources, 'ci', 'write', 'photos-*', 3600)}")
    assert (identity.kind, identity.name, identity.role) == ("token", "ci", v1.ROLE_WRITE)
    assert identity.pattern.globs == ("photos-*",)
    assert identity.expires_at is not None
    assert asking.identify(f"BEARER  {ADMIN_TOKEN} ").kind == "admin_token"


def test_a_revoked_token_is_refused_by_every_server_within_5_seconds(
    resources: "Resources", asking: Authenticator, clock: Clock
) -> None:
    sent = f"Bearer {create(resources)}"
    asking.identify(sent)
    tokens.revoke(resources.pool, "a")  # by another server
    asking.identify(sent)  # which this one does not know yet
    clock.now += 4.5
    assert reason_of(lambda: asking.identify(sent)) == "TOKEN_REFUSED"


def test_a_token_that_this_server_revokes_or_creates_counts_at_once(
    resources: "Resources", asking: Authenticator
) -> None:
    text = create(resources)
    token_id = int(text.split("_")[1])
    asking.identify(f"Bearer {text}")
    next_id = f"Bearer d3t_{token_id + 1}_{'a' * 43}"
    assert reason_of(lambda: asking.identify(next_id)) == "TOKEN_REFUSED"
    asking.forget(tokens.revoke(resources.pool, "a"))
    assert reason_of(lambda: asking.identify(f"Bearer {text}")) == "TOKEN_REFUSED"
    other, row = tokens.create(resources.pool, "b", "read", "", 0)
    asking.forget(row.id)
    assert asking.identify(f"Bearer {other}").name == "b"


def test_a_token_expires_without_another_look_at_the_database(
    resources: "Resources", asking: Authenticator, clock: Clock
) -> None:
    sent = f"Bearer {create(resources, ttl=1)}"
    asking.identify(sent)
    clock.now += 1.5
    with pytest.raises(Failure, match="expired"):
        asking.identify(sent)


def test_a_busy_token_asks_the_database_once_in_a_while(
    resources: "Resources", asking: Authenticator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    credential = api_tokens.credential

    def ask(conn: Connection, token_id: int) -> Credential | None:
        asked.append(token_id)
        return credential(conn, token_id)

    monkeypatch.setattr(api_tokens, "credential", ask)
    sent = f"Bearer {create(resources)}"
    for _ in range(100):
        asking.identify(sent)
        clock.now += 0.1  # 10 seconds in all
    assert 4 <= len(asked) <= 6


def test_ids_that_no_token_has_are_remembered_and_do_not_fill_the_memory(
    resources: "Resources", asking: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = f"Bearer {create(resources)}"
    asking.identify(known)
    monkeypatch.setattr(authenticator, "_MAX_UNKNOWN", 10)
    asked = []
    monkeypatch.setattr(api_tokens, "credential", lambda _conn, number: asked.append(number))
    for number in [*range(1000, 1050), *range(1040, 1050)]:
        assert reason_of(lambda: asking.identify(f"Bearer d3t_{number}_{'a' * 43}")) == "TOKEN_REFUSED"  # noqa: B023
    assert len(asked) == 50
    assert len(asking._unknown) == 10
    assert asking.identify(known).name == "a"


def test_each_way_compares_a_secret_once_and_in_constant_time(
    resources: "Resources", asking: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = create(resources)
    token_id, secret = text.split("_")[1:]
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    unknown = f"d3t_9{token_id}_{secret}"
    wrong = f"d3t_{token_id}_{'a' * 43}"
    for sent in (text, unknown, wrong, ADMIN_TOKEN, "x" * 32, "x"):
        compared.clear()
        try:
            asking.identify(f"Bearer {sent}")
        except Failure:
            assert sent in (unknown, wrong, "x" * 32, "x")
        assert compared == [(32, 32)], sent  # hashes, of one length whatever was sent


def test_the_last_use_is_written_once_in_five_minutes_and_not_by_the_call(
    resources: "Resources", asking: Authenticator, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = f"Bearer {create(resources)}"
    written = []
    record_use = api_tokens.record_use

    def record(conn: Connection, ids: Sequence[int], interval: timedelta) -> int:
        written.append(list(ids))
        return record_use(conn, ids, interval)

    monkeypatch.setattr(api_tokens, "record_use", record)
    for _ in range(5):
        asking.identify(sent)
    wait_until(lambda: execute("SELECT 1 FROM api_tokens WHERE last_used_at IS NOT NULL") != [], 10)
    other = Authenticator(resources.pool)  # another server, which sees it in the row
    other.identify(sent)
    other.close()
    asking.close()
    assert len(written) == 1
    execute("UPDATE api_tokens SET last_used_at = now() - interval '6 minutes'")
    third = Authenticator(resources.pool)
    third.identify(sent)
    third.close()
    assert len(written) == 2


def test_no_repr_shows_a_token(resources: "Resources", asking: Authenticator) -> None:
    text = create(resources)
    secret = text.rpartition("_")[2]
    identity = asking.identify(f"Bearer {text}")
    origin = Origin("rest", "id", f"Bearer {text}")
    shown = repr([identity, origin, asking._known, tokens.parse(text), AccessSettings(admin_token=text[4:])])
    assert secret not in shown
    assert hashlib.sha256(secret.encode()).hexdigest() not in shown
    assert repr(tokens.hashed(secret)) not in shown


def test_without_an_admin_token_no_text_is_one(resources: "Resources") -> None:
    none = Authenticator(resources.pool)
    assert reason_of(lambda: none.identify(f"Bearer {ADMIN_TOKEN}")) == "TOKEN_REFUSED"
    assert reason_of(lambda: none.identify(None)) == "TOKEN_MISSING"
