"""Options that several commands share, and their types."""

import json
import math
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from datas3t.archive.names import MAX_KEY
from datas3t.cli import completion
from datas3t.cli.paths import SETTING

if TYPE_CHECKING:
    from datas3t.client import Client
    from datas3t.client._calls.connection import Address

Command = TypeVar("Command", bound=Callable[..., Any])

# Longer numbers are rejected by their length, because Python refuses to convert very long ones.
_MAX_DIGITS = 99


class Key(click.ParamType[int]):
    """The key of a datapoint."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the key, or fail with a usage error."""
        text = str(value).strip()
        key = int(text) if re.fullmatch(f"[0-9]{{1,{_MAX_DIGITS}}}", text) else -1
        if not 0 <= key <= MAX_KEY:
            self.fail(f"{value!r} is not a key; keys are whole numbers from 0 to {MAX_KEY}", param, ctx)
        return key


KEY = Key()
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PURGE_VERSIONS = click.option(
    "--purge-versions",
    is_flag=True,
    help="Also remove all versions of the objects, in a bucket with versioning. Asks even with --force.",
)
FORCE = click.option("--force", is_flag=True, help="Do not ask for confirmation.")
DATAS3T = click.option(
    "--datas3t", required=True, metavar="NAME", help="The name of the datas3t.", shell_complete=completion.datas3ts
)
FIRST = click.option("--first-datapoint", "first", required=True, type=KEY, help="The first key, inclusive.")
LAST = click.option("--last-datapoint", "last", required=True, type=KEY, help="The last key, inclusive.")

_MAX_SECRET = 64 << 10  # characters of a file with a secret
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Size(click.ParamType[int]):
    """A number of bytes, such as 5242880, 512MB or 1GB. KB, MB, GB and TB are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes, or fail with a usage error."""
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        number, unit = (text[:-1], text[-1]) if text and text[-1] in "KMGT" else (text, "")
        if not re.fullmatch(rf"[0-9]{{1,{_MAX_DIGITS}}}\s*", number) or int(number) == 0:
            self.fail(f"{value!r} is not a size; examples: 5242880, 512MB, 1GB", param, ctx)
        return int(number) * _UNITS[unit]


SIZE = Size()


class Duration(click.ParamType[float]):
    """A duration, such as 90s, 5m, 24h or 7d. A number without a unit is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number of seconds, or fail with a usage error."""
        found = re.fullmatch(r"([0-9]{1,8}(?:\.[0-9]{1,9})?)\s*([smhd]?)", str(value).strip().lower())
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is not a duration; examples: 90s, 5m, 24h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


DURATION = Duration()


class Workers(click.ParamType[int]):
    """A number of processes, or `auto`: one for each core that this process may use."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of processes."""
        text = str(value).strip().lower()
        if text == "auto":
            return cores()
        if not re.fullmatch("0*[1-9][0-9]{0,2}", text):
            self.fail(f"{value!r} is not a number of processes; examples: 1, 4, auto", param, ctx)
        return int(text)


WORKERS = Workers()


class List(click.ParamType[tuple[str, ...]]):
    """One or several texts, separated by commas."""

    name = "list"

    def convert(self, value: Any, *_: object) -> tuple[str, ...]:
        """Return the texts."""
        if isinstance(value, tuple):
            return value
        return tuple(each.strip() for each in str(value).split(",") if each.strip())


LIST = List()


def check_range(first: int, last: int) -> None:
    """Raise UsageError if the first key is greater than the last."""
    if first > last:
        raise click.UsageError(f"the first key, {first}, is greater than the last key, {last}")


def server_url(envvar: str | None = None, *, hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds `--server-url` and `--ca-file`.

    Every group and command accepts them, and the last ones given are used. Only the top-level group passes `envvar`. If
    a sub-command also read the environment, its value would replace the one given before the sub-command. They are
    `hidden` in the help of commands that need no server.
    """

    def keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value:
            context.ensure_object(dict)[parameter.name] = value

    address = click.option(
        "--server-url",
        envvar=envvar,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=keep,
        metavar="URL",
        hidden=hidden,
        help="The address of the server.  [default: http://localhost:8765]",
    )
    ca_file = click.option(
        "--ca-file",
        envvar="DATAS3T_CA_FILE" if envvar else None,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=keep,
        metavar="FILE",
        hidden=hidden,
        help="The CA certificates to trust for connections to the server.  [default: the system's]",
    )
    return lambda command: address(ca_file(command))


def database(command: Command) -> Command:
    """Add `--db-url` and `--db-url-file`, for `secret`."""
    url = click.option(
        "--db-url",
        envvar="DB_URL",
        show_envvar=True,
        metavar="URL",
        help="The database, as postgres://user:password@host/name.",
    )
    file = click.option(
        "--db-url-file",
        envvar="DB_URL_FILE",
        show_envvar=True,
        metavar="FILE",
        type=SETTING,
        help="A file with that URL.",
    )
    return url(file(command))


def encryption_key(command: Command) -> Command:
    """Add `--encryption-key` and `--encryption-key-file`, for `secret`."""
    key = click.option(
        "--encryption-key",
        envvar="ENCRYPTION_KEY",
        show_envvar=True,
        metavar="KEY[,KEY...]",
        help="The key printed by `datas3t keygen`. Of several, the first encrypts and all decrypt.",
    )
    file = click.option(
        "--encryption-key-file",
        envvar="ENCRYPTION_KEY_FILE",
        show_envvar=True,
        metavar="FILE",
        type=SETTING,
        help="A file with that key.",
    )
    return key(file(command))


def secret(value: str | None, file: Path | None, variable: str) -> str | None:
    """Return a secret that is given as an option or in a variable, or else in a file. No error shows it.

    Args:
        value: The secret itself.
        file: The file that holds it, perhaps with the end of a line.
        variable: The variable for the secret; that for the file, and the options, have names that follow from it.
    """
    if file is None:
        return value
    option = f"--{variable.lower().replace('_', '-')}"
    if value:
        raise click.UsageError(
            f"{option} ({variable}) and {option}-file ({variable}_FILE) are both set; set one of them"
        )
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_MAX_SECRET).rstrip("\r\n")
    except OSError as error:
        raise click.UsageError(f"{file}, given as {option}-file, cannot be read: {error.strerror}") from None
    except ValueError:
        raise click.UsageError(f"{file}, given as {option}-file, is not text") from None
    if not text:
        raise click.UsageError(f"{file}, given as {option}-file, is empty")
    return text


def transfer(command: Command) -> Command:
    """Add the options that tune a transfer: `--max-parallelism` and `--max-retries`."""
    return transfer_of(4)(command)


def transfer_of(parallelism: int) -> Callable[[Command], Command]:
    """Return a decorator that adds the options that tune a transfer, with a default for `--max-parallelism`."""
    max_parallelism = click.option(
        "--max-parallelism",
        default=parallelism,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help="The maximum number of concurrent requests.",
    )
    max_retries = click.option(
        "--max-retries",
        default=3,
        show_default=True,
        type=click.IntRange(0),
        metavar="N",
        help="The maximum number of retries of each request.",
    )
    return lambda command: max_parallelism(max_retries(command))


def client(token: str | None = None) -> "Client":
    """Return a client for the server that the options of the current command name.

    Without a token it shows what the environment and `login` have, or what `up` has written for this user.
    """
    from datas3t.client import Client

    given = click.get_current_context().ensure_object(dict)
    return Client(given.get("server_url"), ca_file=given.get("ca_file"), token=token or _token_of_up())


def _token_of_up() -> str | None:
    """Return the token of the server that `up` runs in the user's data folder, if that is the one to call."""
    from datas3t.client._calls import credentials
    from datas3t.client._calls.connection import resolve_address
    from datas3t.local import folders

    called = address()
    if not called.loopback or credentials.resolve(None, called).is_known():
        return None
    try:
        running = json.loads((folders.data() / "stack.json").read_bytes())
        same = resolve_address(str(running["server_url"]))
        token = running.get("token")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    port, other = called.target.rpartition(":")[2], same.target.rpartition(":")[2]
    return str(token) if token and port == other and called.tls == same.tls else None


def address() -> "Address":
    """Return the address of the server that the options of the current command name."""
    from datas3t.client._calls.connection import resolve_address

    return resolve_address(click.get_current_context().ensure_object(dict).get("server_url"))


def cores() -> int:
    """Return the number of cores that the system lets this process use; that of a container is often a quota."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such quota
        quota, period = _QUOTA.read_text().split()
        available = min(available, math.ceil(int(quota) / int(period)))
    return max(1, available)
