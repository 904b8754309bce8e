"""Tokens of clients: where they come from, that they are shown to the server and to nobody else, and their methods."""

import pickle
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import (
    AlreadyExists,
    Client,
    FileError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from datas3t.client._calls import credentials
from datas3t.client._calls.connection import resolve_address
from datas3t.server.settings import AccessSettings
from tests.support.serving import serving, settings_for
from tests.support.tars import archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

ADMIN = "an-admin-token-of-32-characters-or-more"
HERE = "http://localhost:8765"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's settings, which has none yet, in an environment without tokens."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for variable in ("DATAS3T_TOKEN", "DATAS3T_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "config/datas3t"


@pytest.fixture
def guarded(services: "Services", database: str, tmp_path: Path) -> Iterator["Server"]:
    """Yield a server that asks for tokens."""
    access = AccessSettings(asks=True, admin_token=ADMIN)
    with serving(settings_for(services, database, tmp_path, access=access)) as server:
        yield server


def token_for(url: str = HERE, token: str | None = None) -> str | None:
    return credentials.resolve(token, resolve_address(url)).token()


def test_the_sources_of_a_token_and_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_for() is None
    credentials.store(resolve_address(HERE), "stored")
    assert token_for() == "stored"
    (tmp_path / "token").write_text("of-a-file\n")
    monkeypatch.setenv("DATAS3T_TOKEN_FILE", str(tmp_path / "token"))
    assert token_for() == "of-a-file"
    monkeypatch.setenv("DATAS3T_TOKEN", "of-a-variable")
    assert token_for() == "of-a-variable"
    assert token_for(token="given") == "given"


def test_a_stored_token_is_for_scheme_host_and_port_alone(config: Path) -> None:
    credentials.store(resolve_address("https://Data.example"), "secret")
    assert token_for("https://data.example:443") == "secret"
    for other in ("http://data.example:443", "https://data.example:444", "https://data.example.org", HERE):
        assert token_for(other) is None
    assert stat.S_IMODE((config / "tokens.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert credentials.forget(resolve_address("https://data.example"))
    assert not credentials.forget(resolve_address("https://data.example"))
    assert token_for("https://data.example") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"http://localhost:8765": 7}', "[" * 100_000])
def test_damaged_stored_tokens_are_named(config: Path, content: str) -> None:
    config.mkdir(parents=True)
    (config / "tokens.json").write_text(content)
    with pytest.raises(FileError, match=r"tokens\.json is not what `datas3t login` stored; remove it"):
        token_for()


@pytest.mark.parametrize("token", ["two words", "line\nfeed", "ümlaut", "x" * 20_000, "nul\0", "tab\t"])
def test_a_token_with_characters_that_none_has_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidArgument, match="has spaces or characters that no token has") as refused:
        Client(HERE, token=token)
    assert token not in str(refused.value)
    with pytest.raises(InvalidArgument, match="is empty"):
        Client(HERE, token="")


def test_a_token_is_in_no_repr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = Client(HERE, token="my-secret")
    for each in (client, client._session, client._session._credentials, client.datas3t("photos")):
        assert "my-secret" not in repr(each)
    (tmp_path / "token").write_text("my-secret")
    monkeypatch.setenv("DATAS3T_TOKEN_FILE", str(tmp_path / "token"))
    from_file = Client(HERE)
    assert from_file._session._credentials.token() == "my-secret"
    assert "my-secret" not in repr(from_file._session._credentials)


def test_a_token_over_plain_http_to_another_machine_warns() -> None:
    with pytest.warns(UserWarning, match="without encryption, and others can read it; use https://") as warned:
        Client("http://192.0.2.1", token="my-secret").connection.close()
    assert "my-secret" not in str(warned[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for url, token in ((HERE, "my-secret"), ("https://192.0.2.1", "my-secret"), ("http://192.0.2.1", None)):
            Client(url, token=token).connection.close()


def test_tokens_are_created_listed_and_revoked(guarded: "Server") -> None:
    with Client(guarded.url, token=ADMIN) as admin:
        assert (admin.whoami().kind, admin.whoami().role, admin.whoami().token_id) == ("admin_token", "admin", None)
        created = admin.create_token("ci", role="read", pattern="photos-*", ttl_seconds=3600)
        assert created.text not in repr(created)
        assert created.expires_at is not None
        assert 3500 < (created.expires_at - datetime.now(UTC)).total_seconds() < 3700
        with pytest.raises(AlreadyExists):
            admin.create_token("ci", role="read")
        with pytest.raises(InvalidArgument):
            admin.create_token("other", role="king")
        with Client(guarded.url, token=created.text) as client:
            who = client.whoami()
            assert (who.kind, who.name, who.role, who.patterns) == ("token", "ci", "read", ("photos-*",))
            with pytest.raises(PermissionDenied, match="admin"):
                client.list_tokens()
        (listed,) = admin.list_tokens()
        assert (listed.id, listed.name, listed.role, listed.pattern) == (created.id, "ci", "read", "photos-*")
        assert (listed.expires_at, listed.revoked_at) == (created.expires_at, None)
        admin.revoke_token("ci")
        admin.revoke_token("ci")
        assert admin.list_tokens()[0].revoked_at is not None
        with pytest.raises(NotFound):
            admin.revoke_token("nobody")


def test_without_a_token_or_with_a_wrong_one_the_error_says_so_and_shows_none(guarded: "Server") -> None:
    with Client(guarded.url) as client, pytest.raises(Unauthenticated) as missing:
        client.list_datas3ts()
    assert missing.value.reason == "TOKEN_MISSING"
    wrong = "d3t_1_" + "x" * 43
    with Client(guarded.url, token=wrong) as client, pytest.raises(Unauthenticated) as refused:
        client.list_datas3ts()
    assert refused.value.reason == "TOKEN_REFUSED"
    assert wrong not in str(refused.value)
    assert isinstance(refused.value, PermissionDenied)


def test_a_token_is_shown_by_every_kind_of_call_and_from_other_processes(
    guarded: "Server", services: "Services", bucket: str, tmp_path: Path
) -> None:
    s3 = services.s3
    (tmp_path / "a.tar").write_bytes(archive(1, [b"one", b"two"]))
    with Client(guarded.url, token=ADMIN) as admin:
        admin.add_bucket("b", endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key)
        admin.add_datas3t("photos", bucket="b")
        writer = admin.create_token("writer", role="write", pattern="photos")
        admin.import_datas3ts("b")  # a stream
    client = Client(guarded.url, token=writer.text)
    photos = client.datas3t("photos")
    photos.upload_tar(tmp_path / "a.tar")
    assert photos.get(2) == b"two"
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).get(1).decode())"
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(photos), capture_output=True, check=True)
    assert done.stdout == b"one\n"
    client.close()


def test_a_token_in_a_file_is_read_again_when_the_file_changes(
    guarded: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("DATAS3T_TOKEN_FILE", str(file))
    with Client(guarded.url) as client:
        with pytest.raises(FileError, match="named by DATAS3T_TOKEN_FILE, cannot be read: No such file"):
            client.whoami()
        file.write_text("d3t_1_" + "x" * 43)
        with pytest.raises(Unauthenticated):
            client.whoami()
        renewed = tmp_path / "renewed"
        renewed.write_text(f"{ADMIN}\n")
        renewed.rename(file)
        assert client.whoami().role == "admin"
