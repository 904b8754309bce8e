"""The command `datas3t`: its sub-commands and exit codes (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from datas3t.cli import (
    aggregate,
    aliases,
    bucket,
    completion,
    datarange,
    datas3t,
    exchange,
    files,
    options,
    output,
    paths,
    server,
    table,
    token,
    verify,
)

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import importlib.metadata

        click.echo(f"datas3t {importlib.metadata.version('datas3t')}")
        context.exit()


@click.group("datas3t", context_settings=_SETTINGS)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
@options.server_url(envvar="DATAS3T_SERVER_URL")
def cli() -> None:
    """Store datasets of millions of small files as indexed TAR archives in any S3 bucket.

    `datas3t up` starts everything on this machine. Data and results go to standard output, progress and errors to
    standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """


for command in (
    server.server,
    server.up,
    server.keygen,
    server.rekey,
    bucket.bucket,
    datas3t.datas3t,
    datarange.datarange,
    datarange.cat_range,
    files.push,
    table.table,
    files.pull,
    exchange.import_webdataset,
    aggregate.optimize,
    aggregate.aggregate,
    verify.verify,
    token.token,
    token.login,
    token.logout,
    token.whoami,
    options.server_url(hidden=True)(completion.completion),
):
    cli.add_command(command)
aliases.add_to(cli)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    if instruction := os.environ.get(completion.VARIABLE):
        return completion.complete(cli, instruction)
    warnings.showwarning = lambda message, *_: output.note(f"Warning: {message}")
    try:
        paths.refuse_empty(list(arguments))
        with cli.make_context("datas3t", list(arguments)) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return output.report_usage(error)
    except BaseException as error:
        return output.report(error)
    return result if isinstance(result, int) else output.DONE
