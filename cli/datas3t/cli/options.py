"""Options that several commands have, and their types."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from datas3t.archive.names import MAX_KEY

if TYPE_CHECKING:
    from datas3t.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])


class Key(click.ParamType[int]):
    """A datapoint's key."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        key = int(text) if re.fullmatch("[0-9]{1,99}", text) else -1
        if not 0 <= key <= MAX_KEY:
            self.fail(f"{value!r} is no key; they are whole numbers from 0 to {MAX_KEY}", param, ctx)
        return key


KEY = Key()
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
FORCE = click.option("--force", is_flag=True, help="Do not ask.")
DATAS3T = click.option("--datas3t", required=True, metavar="NAME", help="The datas3t.")
FIRST = click.option("--first-datapoint", "first", required=True, type=KEY, help="The first key, inclusive.")
LAST = click.option("--last-datapoint", "last", required=True, type=KEY, help="The last key, inclusive.")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Size(click.ParamType[int]):
    """A number of bytes; KB, MB, GB and TB are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        number, unit = (text[:-1], text[-1]) if text and text[-1] in "KMGT" else (text, "")
        if not re.fullmatch(r"[0-9]{1,99}\s*", number) or int(number) == 0:
            self.fail(f"{value!r} is not a size; examples: 5242880, 512MB, 1GB", param, ctx)
        return int(number) * _UNITS[unit]


SIZE = Size()


class Duration(click.ParamType[float]):
    """Seconds; with m, h or d behind the number minutes, hours or days."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([0-9]{1,8}(?:\.[0-9]{1,9})?)\s*([smhd]?)", str(value).strip().lower())
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is not a duration; examples: 90s, 5m, 24h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


DURATION = Duration()


def check_range(first: int, last: int) -> None:
    """Refuses a range that ends before it begins."""
    if first > last:
        raise click.UsageError(f"the first key, {first}, is above the last, {last}")


def server_url(envvar: str | None = None) -> Callable[[Command], Command]:
    """`--server-url`, before or after the sub-command. Only the group's may read the environment, or that would win
    over what was written before the sub-command."""

    def keep(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value:
            context.ensure_object(dict)["server_url"] = value

    return click.option(
        "--server-url",
        envvar=envvar,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=keep,
        metavar="URL",
        help="The server's address.  [default: http://localhost:8765]",
    )


def transfer(command: Command) -> Command:
    """How hard a transfer tries."""
    parallelism = click.option(
        "--max-parallelism",
        default=4,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help="Requests at a time, at most.",
    )
    retries = click.option(
        "--max-retries",
        default=3,
        show_default=True,
        type=click.IntRange(0),
        metavar="N",
        help="How often each is tried again.",
    )
    return parallelism(retries(command))


def client() -> "Client":
    """The client of the server that the options name."""
    from datas3t.client import Client

    return Client(click.get_current_context().ensure_object(dict).get("server_url"))
