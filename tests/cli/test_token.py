"""`datas3t token`, `login`, `logout` and `whoami` against a server that asks for tokens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.server.settings import AccessSettings
from tests.cli.conftest import Run
from tests.support.serving import serving, settings_for

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ADMIN = "an-admin-token-of-32-characters-or-more"


@pytest.fixture
def guarded(services: "Services", database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of a server that asks for tokens, for a user who has stored none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    access = AccessSettings(asks=True, admin_token=ADMIN)
    with serving(settings_for(services, database, tmp_path, access=access)) as server:
        yield server.url


def test_a_token_is_created_stored_used_and_revoked(run: Run, guarded: str) -> None:
    def admin(*arguments: str) -> str:
        done = run("--server-url", guarded, *arguments, DATAS3T_TOKEN=ADMIN)
        assert done.returncode == 0, done.stderr
        return done.stdout

    created = run(
        *("--server-url", guarded, "token", "create", "--name", "ci", "--role", "write", "--datas3t", "photos-*"),
        *("--ttl", "30d"),
        DATAS3T_TOKEN=ADMIN,
    )
    text = created.stdout.strip()
    assert re.fullmatch(r"d3t_\d+_[0-9A-Za-z]{43}", text)
    assert "it cannot be shown again" in created.stderr

    # Before the login nothing is known of this user, and after it every command knows the token.
    stranger = run("--server-url", guarded, "datas3t", "list")
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert "token" in stranger.stderr
    logged_in = run("--server-url", guarded, "login", answer=f"{text}\n")
    assert logged_in.stdout == f"Logged in to {guarded} as ci, with the role write.\n"
    assert text not in logged_in.stderr
    who = run("--server-url", guarded, "whoami")
    assert re.fullmatch(r"ci: write of photos-\*, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", who.stdout)
    assert json.loads(run("--server-url", guarded, "whoami", "--json").stdout)["patterns"] == ["photos-*"]
    assert run("--server-url", guarded, "datas3t", "list").returncode == 0

    listed = json.loads(admin("token", "list", "--json"))
    assert [(each["name"], each["role"], each["revoked_at"]) for each in listed] == [("ci", "write", "")]
    assert "photos-*" in admin("token", "list")
    assert admin("token", "revoke", "--name", "ci") == "Revoked token ci.\n"

    assert run("--server-url", guarded, "logout").stdout == f"Logged out of {guarded}.\n"
    assert run("--server-url", guarded, "logout").stdout == f"No token was stored for {guarded}.\n"


def test_a_login_with_a_wrong_token_stores_nothing(run: Run, guarded: str, tmp_path: Path) -> None:
    wrong = "d3t_1_" + "x" * 43
    for answer in (f"{wrong}\n", "two words\n", "\n", ""):
        done = run("--server-url", guarded, "login", answer=answer)
        assert (done.returncode, done.stdout) == (1, "")
        assert wrong not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "config/datas3t/tokens.json").exists()


def test_a_server_that_asks_nobody_says_so(run: Run, url: str, tmp_path: Path) -> None:
    folder = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = run("--server-url", url, "login", answer="d3t_1_" + "x" * 43, **folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "asks nobody for a token, so nothing was stored" in done.stderr
    assert run("--server-url", url, "whoami", **folder).stdout.startswith("The server asks nobody for a token")
    refused = run("--server-url", url, "token", "create", "--name", "x", "--role", "read", **folder)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_the_first_token_is_written_to_the_database(run: Run, guarded: str, database: str) -> None:
    create = ("token", "create", "--name", "first", "--role", "admin", "--db-url", database)
    done = run(*create, "--json")
    assert done.returncode == 0, done.stderr
    text = json.loads(done.stdout)["token"]
    assert run("--server-url", guarded, "whoami", DATAS3T_TOKEN=text).stdout == "first: admin of *, without end\n"
    again = run(*create)
    assert (again.returncode, again.stdout) == (1, "")
    assert "first" in again.stderr
    wrong = run(*create[:-1], "postgresql://nobody@127.0.0.1:1/nothing")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)


def test_the_first_token_can_be_made_before_the_first_start(run: Run, empty_database: str) -> None:
    done = run("token", "create", "--name", "first", "--role", "admin", "--db-url", empty_database)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("d3t_1_")
