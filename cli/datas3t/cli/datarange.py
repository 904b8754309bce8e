"""`datas3t datarange` and `datas3t cat-range`: pack, upload, download, list and delete dataranges."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from datas3t.cli import completion, options, output, paths

if TYPE_CHECKING:
    from datas3t.client import Datapoint

_CHUNK_SIZE = 5 << 20  # bytes


@click.group()
@options.server_url()
def datarange() -> None:
    """Manage dataranges: archives of datapoints with consecutive keys."""


@datarange.command()
@click.option("--first-datapoint", "first", type=options.KEY, help="The key of the first file.  [default: 1]")
@click.option(
    "--after",
    metavar="NAME",
    help="Number the files from the next free key of this datas3t on.",
    shell_complete=completion.datas3ts,
)
@click.option("--output", "archive", required=True, type=paths.FILE, help="The archive to write; - is standard output.")
@click.argument("source", nargs=-1, required=True, type=paths.SOURCE)
@options.server_url()
def pack(first: int | None, after: str | None, archive: str, source: Sequence[str]) -> None:
    """Pack files and folders into an archive of numbered datapoints.

    The files are numbered in the order of their paths and keep their extensions. FILE.names.jsonl, written next to the
    archive, has a line {"key", "path"} for each file; standard output has the archive alone. No server is needed,
    except for --after.

    \b
      datas3t datarange pack --output photos.tar ~/photos
      datas3t datarange pack --after photos --output more.tar ~/more
    """
    if after is not None and first is not None:
        raise click.UsageError("give either --first-datapoint or --after")
    from datas3t.client import pack as pack_files

    if after is not None:
        with options.client() as client:
            first = client.next_key(after)
    with paths.to_write(archive) as file, output.bars() as progress:
        done = pack_files(source, file, first=1 if first is None else first, progress=progress)
    _print_summary(archive, f"datapoints {done.first} to {done.last}, {output.size(done.size)}")
    if archive != paths.STANDARD:
        output.note(f"The keys and paths of the files are in {done.names}")


@datarange.command("upload-tar")
@options.DATAS3T
@click.option("--file", "archive", required=True, type=paths.FILE, help="The archive to upload; - is standard input.")
@click.option(
    "--names",
    type=paths.FILE,
    help="The list of names that `pack` wrote, FILE.names.jsonl: the datapoints are found by these names.",
)
@options.transfer
@options.server_url()
def upload_tar(datas3t: str, archive: str, names: str | None, max_parallelism: int, max_retries: int) -> None:
    """Upload an archive. To resume after an interruption, run the same command again.

    \b
      datas3t datarange upload-tar --datas3t photos --file photos.tar
      datas3t datarange upload-tar --datas3t photos --file photos.tar --names photos.tar.names.jsonl
    """
    began = time.monotonic()
    with paths.to_read(archive) as file, options.client() as client, output.bars() as progress:
        done = client.upload_tar(
            datas3t, file, names=names, max_parallelism=max_parallelism, max_retries=max_retries, progress=progress
        )
    output.result(f"{datas3t}: datapoints {done.first} to {done.last}, {output.size(done.size)}")
    output.note(output.duration_and_rate(done.size, time.monotonic() - began))


@datarange.command("download-tar")
@options.DATAS3T
@options.FIRST
@options.LAST
@click.option(
    "--output",
    "archive",
    required=True,
    type=paths.FILE,
    help="The archive to write. It appears only when it is complete. - is standard output.",
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
    datas3t: str, first: int, last: int, archive: str, max_parallelism: int, max_retries: int, chunk_size: int
) -> None:
    """Download datapoints as an archive. To resume after an interruption, run the same command again.

    \b
      datas3t datarange download-tar --datas3t photos --first-datapoint 100 --last-datapoint 200 --output some.tar
    """
    options.check_range(first, last)
    began = time.monotonic()
    with paths.to_write(archive) as file, options.client() as client, output.bars() as progress:
        done = client.download_tar(
            datas3t,
            first,
            last,
            file,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
            chunk_size=chunk_size,
            progress=progress,
        )
    _print_summary(archive, output.size(done.size))
    output.note(output.duration_and_rate(done.size, time.monotonic() - began))


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
                **({"checksums_object_key": each.checksums_object_key} if each.checksums_object_key else {}),
                **({"extension": each.extension} if each.extension else {}),
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
@options.PURGE_VERSIONS
@options.server_url()
def delete(datas3t: str, first: int, last: int, force: bool, purge_versions: bool) -> None:
    """Remove one or more dataranges. This cannot be undone.

    The first datarange must start with exactly the first key, and the last one must end with exactly the last key.

    \b
      datas3t datarange delete --datas3t photos --first-datapoint 1 --last-datapoint 1000
    """
    options.check_range(first, last)
    if output.confirmed(
        f"Remove datapoints {first} to {last} of {datas3t}?", force=force, purge_versions=purge_versions
    ):
        with options.client() as client:
            deleted = client.delete_dataranges(datas3t, first, last, purge_versions=purge_versions)
        output.result(f"Removed {output.counted(len(deleted), 'datarange')} of {datas3t}.")


@click.command("cat-range")
@click.argument("name", shell_complete=completion.datas3ts)
@click.argument("first", type=options.KEY)
@click.argument("last", type=options.KEY)
@click.option("--decompress", is_flag=True, help="Decompress contents whose extension is gz, bz2, xz or zst.")
@click.option("--newline", is_flag=True, help="Write a line feed after each content.")
@options.server_url()
def cat_range(name: str, first: int, last: int, decompress: bool, newline: bool) -> None:
    """Write the contents of datapoints FIRST to LAST to standard output.

    \b
      datas3t cat-range photos 42 42 > photo.jpg
      datas3t cat-range records 1 1000 --decompress --newline
    """
    options.check_range(first, last)

    def pieces(datapoint: "Datapoint") -> Iterator[bytes]:
        from datas3t.cli import decompression

        yield from decompression.decompressed(datapoint.name, datapoint.content) if decompress else (datapoint.content,)
        if newline:
            yield b"\n"

    with options.client() as client:
        if not output.contents(pieces(each) for each in client.datas3t(name).scan(first, last)):
            raise click.ClickException(f"{name} has no datapoint from {first} to {last}; list its dataranges")


def _print_summary(archive: str, text: str) -> None:
    """Print the summary of an archive: to standard error if the archive goes to standard output."""
    if archive == paths.STANDARD:
        output.note(f"standard output: {text}")
    else:
        output.result(f"{archive}: {text}")
