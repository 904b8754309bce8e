"""`datas3t completion`: the completion script for a shell, and the names that it completes."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

import click
from click.shell_completion import get_completion_class, shell_complete

from datas3t.archive.names import valid_name

VARIABLE = "_DATAS3T_COMPLETE"  # set by the script when it requests completions

_SECONDS = 1.0  # time limit for getting names from the server, because the user waits for them

Names = Callable[[click.Context, click.Parameter, str], list[str]]


def complete(command: click.Command, instruction: str) -> int:
    """Print the completions that the shell's script requested, and return the exit code.

    Nothing is printed to standard error: it would appear in the middle of the line that the user is typing.
    """
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    return shell_complete(command, {}, "datas3t", VARIABLE, instruction)


def datas3ts(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of datas3ts on the server that begin with `incomplete`; none if it does not respond."""
    from datas3t import v1
    from datas3t.client import Client

    def page(client: Client, token: str, timeout: float) -> tuple[list[str], str]:
        request = v1.ListDatas3tsRequest(page_token=token)
        response = client.connection.datas3t.ListDatas3ts(request, timeout=timeout)
        return [each.datas3t_name for each in response.datas3ts], response.next_page_token

    return _names(context, page, incomplete)


def buckets(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of bucket configurations that begin with `incomplete`; none if the server does not respond."""
    from datas3t import v1
    from datas3t.client import Client

    def page(client: Client, token: str, timeout: float) -> tuple[list[str], str]:
        request = v1.ListBucketsRequest(page_token=token)
        response = client.connection.bucket.ListBuckets(request, timeout=timeout)
        return [each.name for each in response.buckets], response.next_page_token

    return _names(context, page, incomplete)


def _names(context: click.Context, page: Callable[..., tuple[list[str], str]], incomplete: str) -> list[str]:
    """Return the names of all pages that arrive in time and begin with `incomplete`."""
    from datas3t.client import Client

    found: list[str] = []
    deadline = time.monotonic() + _SECONDS
    given = context.find_object(dict) or {}
    with suppress(Exception), Client(given.get("server_url"), ca_file=given.get("ca_file")) as client:
        client.connection.interceptor.retries = False  # one would come too late
        token = ""
        while (left := deadline - time.monotonic()) > 0:
            names, token = page(client, token, left)
            found += [name for name in names if name.startswith(incomplete) and valid_name(name)]
            if not token:
                break
    return found


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands, options and names in a shell.

    Names of datas3ts and bucket configurations come from the server, if it responds within a second.

    \b
      source <(datas3t completion bash)    # in ~/.bashrc
      source <(datas3t completion zsh)     # in ~/.zshrc, after compinit
      datas3t completion fish | source     # in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "datas3t", VARIABLE).source())
