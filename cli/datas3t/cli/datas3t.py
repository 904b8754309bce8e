"""`datas3t datas3t`: manage datasets."""

from contextlib import suppress

import click

from datas3t.cli import completion, options, output

_NEW_NAME = click.option("--name", required=True, help="The name of the datas3t.")
_NAME = click.option("--name", required=True, help="The name of the datas3t.", shell_complete=completion.datas3ts)


@click.group()
@options.server_url()
def datas3t() -> None:
    """Manage datas3ts: named datasets of numbered files."""


@datas3t.command()
@_NEW_NAME
@click.option(
    "--bucket",
    required=True,
    metavar="NAME",
    help="The bucket configuration that stores the datas3t.",
    shell_complete=completion.buckets,
)
@options.server_url()
def add(name: str, bucket: str) -> None:
    """Add an empty datas3t.

    \b
      datas3t datas3t add --name photos --bucket local
    """
    with options.client() as client:
        client.add_datas3t(name, bucket=bucket)
    output.result(f"Added datas3t {name}.")


@datas3t.command("list")
@options.JSON
@options.server_url()
def list_(as_json: bool) -> None:
    """List the datas3ts and how much they hold.

    \b
      datas3t datas3t list
    """
    with options.client() as client:
        datas3ts = client.list_datas3ts()
    if as_json:
        output.as_json(
            [
                {
                    "datas3t_name": each.name,
                    "bucket_name": each.bucket,
                    "datarange_count": each.dataranges,
                    "total_datapoints": each.datapoints,
                    "lowest_datapoint": each.lowest or 0,
                    "highest_datapoint": each.highest or 0,
                    "total_bytes": each.size,
                }
                for each in datas3ts
            ]
        )
        return
    rows = (
        (
            each.name,
            each.bucket,
            each.dataranges,
            each.datapoints,
            "-" if each.lowest is None else each.lowest,
            "-" if each.highest is None else each.highest,
            output.size(each.size),
        )
        for each in datas3ts
    )
    headings = ("NAME", "BUCKET", "DATARANGES", "DATAPOINTS", "LOWEST", "HIGHEST", "SIZE")
    output.table(headings, rows, "There are no datas3ts.")


@datas3t.command("import")
@click.option(
    "--bucket",
    required=True,
    metavar="NAME",
    help="The bucket configuration to import from.",
    shell_complete=completion.buckets,
)
@options.JSON
@options.server_url()
def import_(bucket: str, as_json: bool) -> None:
    """Add the datas3ts and tables found in a bucket, after the loss of a database.

    What the database already has stays as it is. Each object that is not imported is printed
    with the reason. The command may be run again at any time.

    \b
      datas3t datas3t import --bucket local
    """
    with options.client() as client:
        imported = client.import_datas3ts(bucket)
    if as_json:
        skipped = [{"object_key": each.object_key, "reason": each.reason} for each in imported.skipped]
        output.as_json(
            {
                "imported_datas3ts": imported.datas3ts,
                "imported_count": len(imported.datas3ts),
                "skipped": skipped,
                **({"imported_tables": imported.tables} if imported.tables else {}),
            }
        )
        return
    for name in imported.datas3ts:
        output.result(name)
    for table in imported.tables:
        output.note(f"Imported table {table}")
    for each in imported.skipped:
        output.note(f"Skipped {each.object_key}: {each.reason}")
    output.note(
        f"Imported {output.counted(len(imported.datas3ts), 'datas3t')}; "
        f"skipped {output.counted(len(imported.skipped), 'object')}."
    )


@datas3t.command()
@_NAME
@options.FORCE
@options.PURGE_VERSIONS
@options.server_url()
def clear(name: str, force: bool, purge_versions: bool) -> None:
    """Remove all datapoints and tables of a datas3t. This cannot be undone.

    \b
      datas3t datas3t clear --name photos
    """
    if output.confirmed(f"Remove all datapoints of {name}?", force=force, purge_versions=purge_versions):
        with options.client() as client:
            cleared = client.clear_datas3t(name, purge_versions=purge_versions)
        output.result(
            f"Removed {output.counted(cleared.dataranges, 'datarange')} of {name}; "
            f"deleting {output.counted(cleared.objects, 'object')}."
        )


@datas3t.command()
@_NAME
@options.FORCE
@options.PURGE_VERSIONS
@options.server_url()
def delete(name: str, force: bool, purge_versions: bool) -> None:
    """Remove a datas3t that has no datapoints, and its tables.

    \b
      datas3t datas3t delete --name photos
    """
    tables = 0 if force else _count_tables(name)
    having = f" and its {output.counted(tables, 'table')}" if tables else ""
    if output.confirmed(f"Remove datas3t {name}{having}?", force=force, purge_versions=purge_versions):
        with options.client() as client:
            client.delete_datas3t(name, purge_versions=purge_versions)
        output.result(f"Removed datas3t {name}.")


def _count_tables(name: str) -> int:
    """Return how many tables a datas3t has, for a question; 0 if that is not known: the deletion will say why."""
    from datas3t.client import Datas3tError

    with suppress(Datas3tError), options.client() as client:
        return len(client.datas3t(name).tables())
    return 0
