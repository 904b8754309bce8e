"""The command `verify`."""

from typing import TYPE_CHECKING, Any

import click

from datas3t.cli import completion, options, output

if TYPE_CHECKING:
    from datas3t.client import Verified, WrongDatarange


@click.command("verify")
@click.option("--datas3t", metavar="NAME", shell_complete=completion.datas3ts, help="The datas3t to verify.")
@click.option("--all", "all_datas3ts", is_flag=True, help="Verify all datas3ts.")
@click.option("--first-datapoint", "first", type=options.KEY, metavar="KEY", help="The first key; all without it.")
@click.option("--last-datapoint", "last", type=options.KEY, metavar="KEY", help="The last key; all without it.")
@click.option(
    "--fraction",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="The share of the archives to read, in pieces of 4 MB chosen at random.",
)
@click.option(
    "--max-rate", type=options.SIZE, help="The maximum number of bytes a second, such as 50MB. Without it: no limit."
)
@click.option("--add", is_flag=True, help="Make the checksums of dataranges that have none, and add them.")
@options.JSON
@options.server_url()
def verify(
    datas3t: str | None,
    all_datas3ts: bool,
    first: int | None,
    last: int | None,
    fraction: float,
    max_rate: int | None,
    add: bool,
    as_json: bool,
) -> int:
    """Read archives as a whole, and compare them with their indices and checksums.

    Every header, content, padding and end marker is checked. What is wrong is fetched again before it counts. A line
    is printed for each datarange that is wrong, and the exit code is then 1.

    \b
      datas3t verify --datas3t photos
      datas3t verify --all --fraction 0.01 --max-rate 50MB
    """
    if (datas3t is None) != all_datas3ts:
        raise click.UsageError("give either --datas3t NAME or --all")
    options.check_range(first or 0, last if last is not None else first or 0)
    if add and fraction < 1:
        raise click.UsageError("--add makes checksums of whole archives; leave out --fraction")

    found: list[tuple[str, Verified]] = []
    with options.client() as client, output.bars() as progress:
        for name in [datas3t] if datas3t else [each.name for each in client.list_datas3ts()]:
            handle = client.datas3t(name)
            result = handle.verify(
                first,
                last,
                fraction=fraction,
                max_rate=max_rate,
                add=add,
                on_wrong=None if as_json else _print_wrong,
                progress=progress,
            )
            found.append((name, result))
            if not as_json:
                output.result(f"{name}: {_summary(result)}")
    if as_json:
        output.as_json({"datas3ts": [_fields(name, result) for name, result in found]})
    return output.FAILED if any(result.wrong for _, result in found) else output.DONE


def _print_wrong(wrong: "WrongDatarange") -> None:
    output.result(
        f"{wrong.datas3t}: datapoints {wrong.first} to {wrong.last} are wrong, {wrong.object_key}: {wrong.problem}"
    )


def _summary(result: "Verified") -> str:
    parts = [
        f"{len(result.wrong)} of {output.counted(result.dataranges, 'datarange')} wrong",
        f"{output.counted(result.datapoints, 'datapoint')} right",
        f"{output.size(result.size)} read",
    ]
    if result.added:
        parts.append(f"checksums added to {output.counted(result.added, 'datarange')}")
    if result.without_checksums:
        parts.append(f"{output.counted(result.without_checksums, 'datarange')} without checksums")
    return ", ".join(parts)


def _fields(name: str, result: "Verified") -> dict[str, Any]:
    return {
        "datas3t_name": name,
        "dataranges": result.dataranges,
        "datapoints": result.datapoints,
        "bytes_read": result.size,
        "without_checksums": result.without_checksums,
        "added": result.added,
        "wrong": [
            {
                "min_datapoint_key": wrong.first,
                "max_datapoint_key": wrong.last,
                "data_object_key": wrong.object_key,
                "problem": wrong.problem,
            }
            for wrong in result.wrong
        ],
    }
