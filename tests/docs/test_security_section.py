"""docs/operations.md says what is open to whom: the pages and options that it names are those that there are."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from datas3t.cli.main import cli
from tests.support.front import running_front

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
SECTION = PAGE.partition("\n## Security\n")[2].partition("\n## ")[0]
TABLE = [line for line in SECTION.splitlines() if line.startswith("| ")]


def test_the_pages_that_are_open_to_everyone_are_those_of_the_server() -> None:
    named = {page for row in TABLE for page in re.findall(r"`(/[a-z.]+)`", row)}
    with running_front() as front:
        assert named == set(front.front._rest._pages)
        assert [front.request("GET", page).status for page in named] == [200] * len(named)
        # Calls need no credentials either.
        assert front.request("POST", "/api/v1/buckets", {"name": "x"}).status == 201


def test_every_option_that_the_section_names_exists() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", SECTION))
    assert named >= {"--addr", "--grpc-addr", "--cors-origin", "--allowed-hosts"}
    assert named <= set(options(cli))


def options(command: click.Command) -> Iterator[str]:
    """Yield the options of a command and of those below it."""
    for parameter in command.params:
        yield from parameter.opts
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        yield from options(each)
