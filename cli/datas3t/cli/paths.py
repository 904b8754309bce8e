"""Paths on the command line. `-` is standard input or output where that is supported, and refused elsewhere."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

STANDARD = "-"
_PIECE = 1 << 20  # bytes that are copied at a time


class _Named(click.Path):
    """A path that cannot be standard input or output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with a usage error."""
        if value == STANDARD:
            self.fail(
                "standard input and output cannot be used here; write ./- for a file or folder named -", param, ctx
            )
        return super().convert(value, param, ctx)


# A string, because a Path drops the slash at the end, which marks a folder.
FILE = click.Path()
SOURCE = _Named()
SETTING = _Named(path_type=Path)
FOLDER = _Named(path_type=Path, file_okay=False)


@contextmanager
def to_read(file: str) -> Iterator[str]:
    """Yield the path of a file to read; for `-` that of a temporary file with the content of standard input."""
    if file != STANDARD:
        yield file
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal; name a file, or pipe one into the command")
    with tempfile.NamedTemporaryFile(prefix="datas3t-") as spooled:
        with open(0, "rb", closefd=False) as standard_input:
            shutil.copyfileobj(standard_input, spooled, _PIECE)
        spooled.flush()
        yield spooled.name


@contextmanager
def to_write(file: str) -> Iterator[str]:
    """Yield the path of a file to write; for `-` that of a temporary file, which is then copied to standard output."""
    if file != STANDARD:
        yield file
        return
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; name a file, or redirect the output")
    with tempfile.TemporaryDirectory(prefix="datas3t-") as folder:
        path = os.path.join(folder, "archive.tar")
        yield path
        with open(path, "rb") as archive, open(1, "wb", closefd=False) as standard_output:
            shutil.copyfileobj(archive, standard_output, _PIECE)


def refuse_empty(arguments: list[str]) -> None:
    """Raise UsageError if an argument is empty, for example because a variable of a script is not set."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = argument.removesuffix("=") if argument.startswith("--") and argument.endswith("=") else ""
        if not argument or (option and "=" not in option):
            what = option or (f"the argument after {before}" if before else "an argument")
            raise click.UsageError(f"{what} is empty; give a value, or leave it out")
