"""The spellings of the earlier system's command line. They are hidden from the help."""

import copy
from typing import Any

import click

from datas3t.cli import aggregate, datarange, datas3t


def add_to(cli: click.Group) -> None:
    """Add the old spellings to the top level and to `datarange`."""
    for name, command in (
        ("add", datas3t.add),
        ("list", datas3t.list_),
        ("import", datas3t.import_),
        ("clear", datas3t.clear),
        ("delete", datas3t.delete),
        ("upload-tar", datarange.upload_tar),
        ("optimize-all", _optimize_all()),
    ):
        cli.add_command(_hidden(command), name)
    for name, command in (("aggregate", aggregate.aggregate), ("optimize", aggregate.optimize)):
        datarange.datarange.add_command(_hidden(command), name)


def _hidden(command: click.Command) -> click.Command:
    alias = copy.copy(command)
    alias.hidden = True
    return alias


def _optimize_all() -> click.Command:
    """Return `optimize --all` as a command without options that select datas3ts."""
    optimize = copy.copy(aggregate.optimize)
    run = optimize.callback
    assert run is not None

    def optimize_all(**options: Any) -> None:
        run(datas3t=None, all_datas3ts=True, **options)

    optimize.callback = optimize_all
    optimize.params = [each for each in optimize.params if each.name not in ("datas3t", "all_datas3ts")]
    return optimize
