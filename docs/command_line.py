"""Generate docs/cli.md from the help of the commands."""

from collections.abc import Iterator

import click

from datas3t.cli.main import cli
from datas3t.server.imports.catalogue import overlap_reason

_INTRODUCTION = """\
# The command line

<!-- made by `make gen` from the help of the commands; do not edit it by hand -->

`datas3t` speaks gRPC to the server. `--server-url` sets the address, anywhere in the command; the last one counts.
Without it the environment variable `DATAS3T_SERVER_URL` does, and without both it is http://localhost:8765. An https://
address uses TLS. An address without a port uses 443 for https:// and 80 for http://.

Data and results go to standard output, progress and errors to standard error. Progress bars appear only on a terminal.
Commands that remove something ask for confirmation: `y` or `yes` proceeds, any other answer does nothing and exits with
0. If standard input has ended, nobody can answer: nothing is done, and the exit code is 1. `--force` skips the
question. An output file appears only when it is complete. To resume an interrupted upload, aggregate or download, run
the same command again.

| exit code | meaning |
|---|---|
| 0 | the command succeeded, or you answered no |
| 1 | the command failed; one line on standard error says what happened and what to do next |
| 2 | wrong usage |
| 130 | interrupted with Ctrl-C |

`datas3t completion` prints a script for your shell that completes commands, options and names.

The spellings of the earlier system work too: `add`, `list`, `import`, `clear`, `delete`, `upload-tar` and
`optimize-all` (`optimize --all`) directly after `datas3t`, and `aggregate` and `optimize` after `datas3t datarange`.

Set `DATAS3T_DEBUG=1` to print a traceback with an error.

## JSON

`--json` prints the same fields as the REST route, in this order, indented by two spaces. The format is stable.

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
      "size_bytes": 2048000,
      "checksums_object_key": "datas3t/photos/dataranges/00000000000000000001-00000000000000001000-000000000001.crc32c",
      "extension": "jpg"
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
      "reason": "OVERLAP"
    }
  ]
}
$ datas3t table list --datas3t photos --json
{
  "tables": [
    {
      "table": "labels",
      "file_count": 1,
      "total_bytes": 21043,
      "lowest_key": 1,
      "highest_key": 1000
    }
  ]
}
$ datas3t table show --datas3t photos --table labels --limit 1 --json
[
  {
    "key": 1,
    "label": "cat"
  }
]
$ datas3t push --datas3t photos ~/photos --json
{
  "files": 2450,
  "size_bytes": 99421184,
  "archives": 1,
  "unchanged": 0,
  "left_out": 0,
  "failed": 0
}
$ datas3t pull --datas3t photos --output photos --json
{
  "files": 2450,
  "size_bytes": 99421184,
  "unchanged": 0,
  "failed": 0
}
$ datas3t verify --datas3t photos --json
{
  "datas3ts": [
    {
      "datas3t_name": "photos",
      "dataranges": 2,
      "datapoints": 1000,
      "bytes_read": 4096000,
      "without_checksums": 0,
      "added": 0,
      "wrong": [
        {
          "min_datapoint_key": 1001,
          "max_datapoint_key": 2000,
          "data_object_key": "datas3t/photos/dataranges/00000000000000001001-00000000000000002000-000000000002.tar",
          "problem": "the padding of datapoint 1007 is not zero"
        }
      ]
    }
  ]
}
```

Rows of tables have times as text of ISO 8601 and bytes in base64.

`push` and `pull` print this also if some files failed, and `verify` if dataranges are wrong; the exit code is then 1.
A datarange has no `checksums_object_key` without checksums, and no `extension` if its datapoints have different ones.

## Commands
"""


def page() -> str:
    """Return the page: every command with its help, as `-h` prints it on a terminal of 100 columns."""
    lines = [_INTRODUCTION.replace("OVERLAP", overlap_reason(1, 1000))]
    for name, command, context in _commands(cli, _context(cli, None, "datas3t")):
        lines += [f"### {name}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            if found.hidden:
                continue
            yield from _commands(found, _context(found, context, name))


def _context(command: click.Command, parent: click.Context | None, name: str) -> click.Context:
    return click.Context(command, parent, info_name=name, terminal_width=100, help_option_names=["-h", "--help"])
