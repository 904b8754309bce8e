"""`datas3t table`: what is known about datapoints."""

from typing import TYPE_CHECKING

import click

from datas3t.cli import options, output

if TYPE_CHECKING:
    import pyarrow as pa

    from datas3t.client import Datas3t

_TABLE = click.option("--table", required=True, metavar="NAME", help="The name of the table.")


@click.group()
@options.server_url()
def table() -> None:
    """Manage tables: what is known about datapoints, such as labels, as Parquet beside the data.

    These commands need pyarrow: pip install 'datas3t[tables]'
    """


@table.command("list")
@options.DATAS3T
@options.JSON
@options.server_url()
def list_(datas3t: str, as_json: bool) -> None:
    """List the tables of a datas3t.

    \b
      datas3t table list --datas3t photos
    """
    with options.client() as client:
        tables = client.datas3t(datas3t).tables()
    if as_json:
        listed = [
            {
                "table": each.name,
                "file_count": each.files,
                "total_bytes": each.size,
                "lowest_key": each.lowest,
                "highest_key": each.highest,
            }
            for each in tables
        ]
        output.as_json({"tables": listed})
        return
    rows = ((each.name, each.files, each.lowest, each.highest, output.size(each.size)) for each in tables)
    output.table(("TABLE", "FILES", "LOWEST", "HIGHEST", "SIZE"), rows, f"{datas3t} has no tables.")


@table.command()
@options.DATAS3T
@_TABLE
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(0), metavar="N", help="How many rows to show."
)
@options.JSON
@options.server_url()
def show(datas3t: str, table: str, limit: int, as_json: bool) -> None:
    """Show the first rows of a table.

    \b
      datas3t table show --datas3t photos --table labels --limit 5
    """
    with options.client() as client:
        reader = client.datas3t(datas3t).table(table).to_batches()
        from datas3t.client._tables.exchange import plain_rows

        rows: list[dict[str, object]] = []
        names = list(reader.schema.names)
        for batch in reader if limit else ():
            rows += plain_rows(_table(batch).slice(0, limit - len(rows)))
            if len(rows) >= limit:
                break
    if as_json:
        output.as_json(rows)
        return
    cells = (["-" if row[name] is None else row[name] for name in names] for row in rows)
    output.table(names, cells, f"Table {table} has no rows to show.")


@table.command()
@options.DATAS3T
@_TABLE
@click.option(
    "--file",
    required=True,
    type=click.Path(allow_dash=True),
    help="A .parquet, .csv or .jsonl file; - for JSON lines on standard input.",
)
@options.server_url()
def append(datas3t: str, table: str, file: str) -> None:
    """Append the rows of a file to a table. A row replaces the one with the same key that was appended before.

    The rows have a column `key`, or instead of it `path`, the name that a file had when it was pushed. A table that
    does not exist is made.

    \b
      datas3t table append --datas3t photos --table labels --file labels.csv
    """
    with options.client() as client:
        known = client.datas3t(datas3t).table(table)
        appended = known.append(_rows_of(file, client.datas3t(datas3t), table))
    output.result(f"Appended {output.counted(appended.rows, 'row')} to {table}.")


def _rows_of(file: str, datas3t: "Datas3t", table: str) -> "object":
    from datas3t.client import NotFound
    from datas3t.client._tables import exchange
    from datas3t.client._tables.arrow import pa

    try:
        known = datas3t.table(table).schema
    except NotFound as error:
        if error.reason != "TABLE_NOT_FOUND":
            raise
        known = pa.schema([])
    return exchange.read(file, known)


@table.command()
@options.DATAS3T
@_TABLE
@click.option(
    "--output",
    "path",
    required=True,
    type=click.Path(allow_dash=True),
    help="A .parquet, .csv or .jsonl file to write; - for JSON lines on standard output.",
)
@options.server_url()
def export(datas3t: str, table: str, path: str) -> None:
    """Write the rows of a table to a file, the newest of each key.

    \b
      datas3t table export --datas3t photos --table labels --output labels.parquet
    """
    from datas3t.client._tables import exchange

    exchange.format_of(path)
    with options.client() as client:
        reader = client.datas3t(datas3t).table(table).to_batches()
        rows = exchange.write(path, reader.schema, (_table(batch) for batch in reader))
    if path != "-":
        output.result(f"Exported {output.counted(rows, 'row')} of {table} to {path}.")


@table.command()
@options.DATAS3T
@_TABLE
@options.FORCE
@options.server_url()
def drop(datas3t: str, table: str, force: bool) -> None:
    """Remove a table. This cannot be undone.

    \b
      datas3t table drop --datas3t photos --table labels
    """
    if output.confirmed(f"Remove table {table} of {datas3t}?", force=force):
        with options.client() as client:
            files = client.datas3t(datas3t).table(table).drop()
        output.result(f"Removed table {table} of {datas3t} ({output.counted(files, 'file')}).")


def _table(batch: "pa.RecordBatch") -> "pa.Table":
    from datas3t.client._tables.arrow import pa

    return pa.Table.from_batches([batch])
