"""`datas3t datas3t`: datasets."""

import click

from datas3t.cli import options, output

_NAME = click.option("--name", required=True, help="The datas3t's name.")


@click.group()
def datas3t() -> None:
    """Datas3ts: named datasets of numbered files."""


@datas3t.command()
@_NAME
@click.option("--bucket", required=True, metavar="NAME", help="The bucket configuration to keep it in.")
@options.server_url()
def add(name: str, bucket: str) -> None:
    """Add a datas3t.

    \b
      datas3t datas3t add --name photos --bucket local
    """
    with options.client() as client:
        client.add_datas3t(name, bucket=bucket)
    output.note(f"Added datas3t {name}.")


@datas3t.command("list")
@options.JSON
@options.server_url()
def list_(as_json: bool) -> None:
    """List the datas3ts and what they hold."""
    with options.client() as client:
        found = client.list_datas3ts()
    if as_json:
        fields = ("datas3t_name", "bucket_name", "datarange_count", "total_datapoints", "lowest_datapoint")
        output.as_json(
            [
                dict(
                    zip(
                        (*fields, "highest_datapoint", "total_bytes"),
                        (
                            each.name,
                            each.bucket,
                            each.dataranges,
                            each.datapoints,
                            each.lowest or 0,
                            each.highest or 0,
                            each.size,
                        ),
                        strict=True,
                    )
                )
                for each in found
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
        for each in found
    )
    headings = ("NAME", "BUCKET", "DATARANGES", "DATAPOINTS", "LOWEST", "HIGHEST", "SIZE")
    output.table(headings, rows, "There are no datas3ts.")


@datas3t.command("import")
@click.option("--bucket", required=True, metavar="NAME", help="The bucket configuration to read.")
@options.JSON
@options.server_url()
def import_(bucket: str, as_json: bool) -> None:
    """Add the datas3ts that stand in a bucket and are not known yet, after the loss of a database.

    \b
    What is left out is printed with the reason. Repeated, it changes nothing.
      datas3t datas3t import --bucket local
    """
    with options.client() as client:
        done = client.import_datas3ts(bucket)
    if as_json:
        skipped = [{"object_key": each.object_key, "reason": each.reason} for each in done.skipped]
        output.as_json({"imported_datas3ts": done.datas3ts, "imported_count": len(done.datas3ts), "skipped": skipped})
        return
    for name in done.datas3ts:
        output.result(name)
    for each in done.skipped:
        output.note(f"Left out {each.object_key}: {each.reason}")
    output.note(f"Imported into {len(done.datas3ts)} datas3ts; left out {len(done.skipped)} objects.")


@datas3t.command()
@_NAME
@options.FORCE
@options.server_url()
def clear(name: str, force: bool) -> None:
    """Remove all datapoints of a datas3t, for good."""
    if output.confirmed(f"Remove all datapoints of {name}?", force=force):
        with options.client() as client:
            cleared = client.clear_datas3t(name)
        output.note(f"Removed {cleared.dataranges} dataranges of {name}; {cleared.objects} objects are being deleted.")


@datas3t.command()
@_NAME
@options.FORCE
@options.server_url()
def delete(name: str, force: bool) -> None:
    """Remove a datas3t that holds no datapoints."""
    if output.confirmed(f"Remove datas3t {name}?", force=force):
        with options.client() as client:
            client.delete_datas3t(name)
        output.note(f"Removed datas3t {name}.")
