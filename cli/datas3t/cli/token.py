"""`datas3t token`, `login`, `logout` and `whoami`: who may do what on a server."""

from datetime import datetime
from pathlib import Path

import click

from datas3t.cli import options, output

_NAME = click.option("--name", required=True, metavar="NAME", help="The name of the token.")


@click.group()
@options.server_url()
def token() -> None:
    """Manage tokens, with which callers show who they are to a server that runs with `--auth tokens`."""


@token.command()
@_NAME
@click.option(
    "--role",
    required=True,
    type=click.Choice(["read", "write", "manage", "admin"]),
    help="What it may do; each role may do what those before it may.",
)
@click.option("--datas3t", "pattern", metavar="GLOB", help="The datas3ts that it is for.  [default: *]")
@click.option("--ttl", type=options.DURATION, help="How long it works, such as 30d.  [default: without end]")
@options.database
@options.JSON
@options.server_url()
def create(
    name: str,
    role: str,
    pattern: str | None,
    ttl: float | None,
    db_url: str | None,
    db_url_file: Path | None,
    as_json: bool,
) -> None:
    """Create a token, and print it. It cannot be shown again.

    With --db-url it is written to the database itself: so the first one is made, on the server's machine.

    \b
      datas3t token create --name ci --role write --datas3t 'photos-*' --ttl 30d
    """
    # The variable DB_URL is that of the server, which need not be meant here.
    source = click.get_current_context().get_parameter_source
    given = any(source(each) is click.core.ParameterSource.COMMANDLINE for each in ("db_url", "db_url_file"))
    if given:
        database = options.secret(db_url, db_url_file, "DB_URL")
        text, token_id, expires_at = _created_in(str(database), name, role, pattern or "", int(ttl or 0))
    else:
        with options.client() as client:
            created = client.create_token(name, role=role, pattern=pattern, ttl_seconds=ttl)
        text, token_id, expires_at = created.text, created.id, created.expires_at
    if as_json:
        output.as_json({"token": text, "token_id": token_id, "expires_at": _shown(expires_at, "")})
        return
    output.result(text)
    output.note(f"Copy it now: it cannot be shown again. It works {_until(expires_at)}.")


def _created_in(db_url: str, name: str, role: str, pattern: str, ttl_seconds: int) -> tuple[str, int, datetime | None]:
    from datas3t.server.app import first_token
    from datas3t.server.errors import Failure
    from datas3t.server.settings import SettingsError

    try:
        return first_token.create(db_url, name, role, pattern, ttl_seconds)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except Failure as error:
        raise click.ClickException(error.message) from None


@token.command("list")
@options.JSON
@options.server_url()
def list_(as_json: bool) -> None:
    """List the tokens, also those that were revoked or have expired.

    \b
      datas3t token list
    """
    with options.client() as client:
        tokens = client.list_tokens()
    if as_json:
        output.as_json(
            [
                {
                    "token_id": each.id,
                    "name": each.name,
                    "role": each.role,
                    "pattern": each.pattern,
                    "created_at": _shown(each.created_at, ""),
                    "expires_at": _shown(each.expires_at, ""),
                    "last_used_at": _shown(each.last_used_at, ""),
                    "revoked_at": _shown(each.revoked_at, ""),
                }
                for each in tokens
            ]
        )
        return
    rows = (
        (
            each.name,
            each.role,
            each.pattern,
            _shown(each.created_at, "-"),
            _shown(each.expires_at, "-"),
            _shown(each.last_used_at, "-"),
            _shown(each.revoked_at, "-"),
        )
        for each in tokens
    )
    headings = ("NAME", "ROLE", "DATAS3TS", "CREATED", "EXPIRES", "LAST USED", "REVOKED")
    output.table(headings, rows, "There are no tokens.")


@token.command()
@_NAME
@options.server_url()
def revoke(name: str) -> None:
    """Revoke a token: all servers refuse it within 5 seconds. URLs that were signed for it work until they expire.

    \b
      datas3t token revoke --name ci
    """
    with options.client() as client:
        client.revoke_token(name)
    output.result(f"Revoked token {name}.")


@click.command()
@options.server_url()
def login() -> None:
    """Store a token for a server, so that commands and the SDK show it from now on.

    The token is read from a prompt or from standard input, and tried before it is stored. It is kept for the scheme,
    host and port of the server, in a file that only you can read.

    \b
      datas3t --server-url https://datas3t.example.com login
    """
    from datas3t.client._calls import credentials

    address = options.address()
    text = credentials.checked(output.secret("Token"), "what was entered")
    with options.client(token=text) as client:
        who = client.whoami()
    if who.kind == "off":
        raise click.ClickException(f"the server at {address.url} asks nobody for a token, so nothing was stored")
    file = credentials.store(address, text)
    output.result(f"Logged in to {address.url} as {who.name}, with the role {who.role}.")
    output.note(f"The token is in {file}")


@click.command()
@options.server_url()
def logout() -> None:
    """Remove the token that `login` stored for a server. The token itself goes on working until it is revoked.

    \b
      datas3t --server-url https://datas3t.example.com logout
    """
    from datas3t.client._calls import credentials

    address = options.address()
    known = credentials.forget(address)
    output.result(f"Logged out of {address.url}." if known else f"No token was stored for {address.url}.")


@click.command()
@options.JSON
@options.server_url()
def whoami(as_json: bool) -> None:
    """Show who the server takes you for, and what you may do.

    \b
      datas3t whoami
    """
    with options.client() as client:
        who = client.whoami()
    if as_json:
        output.as_json(
            {
                "kind": who.kind,
                "name": who.name,
                "token_id": who.token_id or 0,
                "role": who.role,
                "patterns": list(who.patterns),
                "expires_at": _shown(who.expires_at, ""),
            }
        )
    elif who.kind == "off":
        output.result("The server asks nobody for a token: everyone who reaches it may do everything.")
    else:
        output.result(f"{who.name}: {who.role} of {', '.join(who.patterns)}, {_until(who.expires_at)}")


def _shown(when: datetime | None, missing: str) -> str:
    return missing if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _until(expires_at: datetime | None) -> str:
    return "without end" if expires_at is None else f"until {_shown(expires_at, '')}"
