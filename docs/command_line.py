"""docs/cli.md, out of the commands' own help."""

from collections.abc import Iterator

import click

from datas3t.cli.main import cli

_INTRODUCTION = """\
# The command line

<!-- made by `make gen` out of the commands' help; edits here are lost -->

`datas3t` speaks gRPC to the server at `--server-url`, which may stand before or after the sub-command, or else at
`DATAS3T_SERVER_URL`, or else at http://localhost:8765. https means TLS; no port means 443 or 80.

Data and results go to standard output, progress and errors to standard error; bars show only on a terminal. Commands
that remove something ask first: `y` or `yes` proceeds, anything else says so and exits 0; `--force` does not ask. An
output file appears whole or not at all. An interrupted upload or download goes on where it stopped when the same
command is run again.

| exit code | |
|---|---|
| 0 | done, or not done because you said no |
| 1 | failed; one line on standard error says what happened and what to do next |
| 2 | wrong usage |
| 130 | interrupted |

`DATAS3T_DEBUG=1` adds a traceback to an error.

## JSON

`--json` prints what the REST route prints, indented by two spaces, with its fields in this order; it is stable.

```console
$ datas3t bucket list --json
[
  {
    "name": "local",
    "endpoint": "http://127.0.0.1:9000",
    "bucket": "datas3t"
  }
]
$ datas3t datas3t list --json
[
  {
    "datas3t_name": "photos",
    "bucket_name": "local",
    "datarange_count": 1,
    "total_datapoints": 1000,
    "lowest_datapoint": 1,
    "highest_datapoint": 1000,
    "total_bytes": 2048000
  }
]
$ datas3t datarange list --datas3t photos --json
{
  "dataranges": [
    {
      "datarange_id": 1,
      "data_object_key": "datas3t/photos/dataranges/00000000000000000001-00000000000000001000-000000000001.tar",
      "index_object_key": "datas3t/photos/dataranges/00000000000000000001-00000000000000001000-000000000001.index",
      "min_datapoint_key": 1,
      "max_datapoint_key": 1000,
      "size_bytes": 2048000
    }
  ]
}
$ datas3t datas3t import --bucket local --json
{
  "imported_datas3ts": [
    "photos"
  ],
  "imported_count": 1,
  "skipped": [
    {
      "object_key": "datas3t/photos/dataranges/00000000000000000001-00000000000000000400-000000000002.tar",
      "reason": "it overlaps the datarange from 1 to 1000, which is there"
    }
  ]
}
```

## Commands
"""


def page() -> str:
    """Every command with its help, as `-h` shows it on a terminal of 100 columns."""
    lines = [_INTRODUCTION]
    for name, command, context in _commands(cli, _context(cli, None, "datas3t")):
        lines += [f"### {name}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, _context(found, context, name))


def _context(command: click.Command, parent: click.Context | None, name: str) -> click.Context:
    return click.Context(command, parent, info_name=name, terminal_width=100, help_option_names=["-h", "--help"])
