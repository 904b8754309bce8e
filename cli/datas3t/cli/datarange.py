"""`datas3t datarange` and `datas3t cat-range`: pack, upload, download, list and delete dataranges."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from datas3t.cli import options, output

_CHUNK_SIZE = 5 << 20  # bytes
_FILE = click.Path(path_type=Path)


@click.group()
def datarange() -> None:
    """Manage dataranges: archives of datapoints with consecutive keys."""


@datarange.command()
@click.option(
    "--first-datapoint", "first", default=1, show_default=True, type=options.KEY, help="The key of the first file."
)
@click.option("--output", "archive", required=True, type=_FILE, help="The archive to write.")
@click.argument("source", nargs=-1, required=True, type=_FILE)
def pack(first: int, archive: Path, source: Sequence[Path]) -> None:
    """Pack files and folders into an archive of numbered datapoints.

    The files are numbered in the order of their paths and keep their extensions. FILE.names.jsonl, written next to the
    archive, has a line {"key", "path"} for each file. No server is needed.

    \b
      datas3t datarange pack --output photos.tar ~/photos
    """
    from datas3t.client import pack as pack_files

    with output.bars() as progress:
        done = pack_files(source, archive, first=first, progress=progress)
    output.result(f"{archive}: datapoints {done.first} to {done.last}, {output.size(done.size)}")
    output.note(f"The keys and paths of the files are in {done.names}")


@datarange.command("upload-tar")
@options.DATAS3T
@click.option("--file", "archive", required=True, type=_FILE, help="The archive to upload.")
@options.transfer
@options.server_url()
def upload_tar(datas3t: str, archive: Path, max_parallelism: int, max_retries: int) -> None:
    """Upload an archive. To resume after an interruption, run the same command again.

    \b
      datas3t datarange upload-tar --datas3t photos --file photos.tar
    """
    began = time.monotonic()
    with options.client() as client, output.bars() as progress:
        done = client.upload_tar(
            datas3t, archive, max_parallelism=max_parallelism, max_retries=max_retries, progress=progress
        )
    output.result(f"{datas3t}: datapoints {done.first} to {done.last}, {output.size(done.size)}")
    output.note(_duration_and_rate(done.size, time.monotonic() - began))


@datarange.command("download-tar")
@options.DATAS3T
@options.FIRST
@options.LAST
@click.option(
    "--output", "archive", required=True, type=_FILE, help="The archive to write. It appears only when it is complete."
)
@options.transfer
@click.option(
    "--chunk-size",
    default=_CHUNK_SIZE,
    show_default=True,
    type=options.SIZE,
    help="The maximum number of bytes per request.",
)
@options.server_url()
def download_tar(
    datas3t: str, first: int, last: int, archive: Path, max_parallelism: int, max_retries: int, chunk_size: int
) -> None:
    """Download datapoints as an archive. To resume after an interruption, run the same command again.

    \b
      datas3t datarange download-tar --datas3t photos --first-datapoint 100 --last-datapoint 200 --output some.tar
    """
    options.check_range(first, last)
    began = time.monotonic()
    with options.client() as client, output.bars() as progress:
        done = client.download_tar(
            datas3t,
            first,
            last,
            archive,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
            chunk_size=chunk_size,
            progress=progress,
        )
    output.result(f"{archive}: {output.size(done.size)}")
    output.note(_duration_and_rate(done.size, time.monotonic() - began))


@datarange.command("list")
@options.DATAS3T
@options.JSON
@options.server_url()
def list_(datas3t: str, as_json: bool) -> None:
    """List the dataranges of a datas3t.

    \b
      datas3t datarange list --datas3t photos
    """
    with options.client() as client:
        dataranges = client.list_dataranges(datas3t)
    if as_json:
        rows = [
            {
                "datarange_id": each.id,
                "data_object_key": each.object_key,
                "index_object_key": each.index_object_key,
                "min_datapoint_key": each.first,
                "max_datapoint_key": each.last,
                "size_bytes": each.size,
            }
            for each in dataranges
        ]
        output.as_json({"dataranges": rows})
    else:
        lines = (
            (each.first, each.last, each.datapoints, output.size(each.size), each.object_key) for each in dataranges
        )
        output.table(("FIRST", "LAST", "DATAPOINTS", "SIZE", "ARCHIVE"), lines, f"{datas3t} has no dataranges.")


@datarange.command()
@options.DATAS3T
@options.FIRST
@options.LAST
@options.FORCE
@options.server_url()
def delete(datas3t: str, first: int, last: int, force: bool) -> None:
    """Remove one or more dataranges. This cannot be undone.

    The first datarange must start with exactly the first key, and the last one must end with exactly the last key.

    \b
      datas3t datarange delete --datas3t photos --first-datapoint 1 --last-datapoint 1000
    """
    options.check_range(first, last)
    if output.confirmed(f"Remove datapoints {first} to {last} of {datas3t}?", force=force):
        with options.client() as client:
            deleted = client.delete_dataranges(datas3t, first, last)
        output.note(f"Removed {len(deleted)} datarange{'s' if len(deleted) != 1 else ''} of {datas3t}.")


@click.command("cat-range")
@click.argument("name")
@click.argument("first", type=options.KEY)
@click.argument("last", type=options.KEY)
@options.server_url()
def cat_range(name: str, first: int, last: int) -> None:
    """Write the contents of datapoints FIRST to LAST to standard output.

    \b
      datas3t cat-range photos 42 42 > photo.jpg
    """
    options.check_range(first, last)
    with options.client() as client:
        if not output.contents(each.content for each in client.datas3t(name).scan(first, last)):
            raise click.ClickException(f"{name} has no datapoint from {first} to {last}; list its dataranges")


def _duration_and_rate(size: int, seconds: float) -> str:
    return f"{seconds:.1f} s, {output.size(int(size / max(seconds, 0.001)))}/s"
