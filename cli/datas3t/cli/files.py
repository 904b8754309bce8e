"""`datas3t push` and `datas3t pull`: files by name, into a datas3t and out of it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from datas3t.cli import options, output, paths

if TYPE_CHECKING:
    from datas3t.client import Pulled, Pushed

_ARCHIVE_SIZE = 256 << 20  # bytes
_SHOWN = 20  # messages that are printed; the others are counted


@click.command()
@options.DATAS3T
@click.argument("source", nargs=-1, type=paths.SOURCE)
@click.option("--prefix", default="", metavar="FOLDER", help="The folder that all paths in the datas3t begin with.")
@click.option(
    "--files-from",
    type=paths.FILE,
    metavar="FILE",
    help="A list of files, one on a line or separated by NUL; - is standard input. They are relative to SOURCE.",
)
@click.option(
    "--archive-size",
    default=_ARCHIVE_SIZE,
    show_default="256MB",
    type=options.SIZE,
    help="The size of the archives that the files are packed into.",
)
@options.transfer_of(8)
@click.option("--follow-links", is_flag=True, help="Follow links to folders.")
@click.option("--dry-run", is_flag=True, help="Only show how much would be pushed.")
@options.JSON
@options.server_url()
def push(
    datas3t: str,
    source: Sequence[str],
    prefix: str,
    files_from: str | None,
    archive_size: int,
    max_parallelism: int,
    max_retries: int,
    follow_links: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put files and folders into a datas3t. Only files that are new or were changed are sent.

    Each file becomes a datapoint, which is found again by its path relative to SOURCE. To resume after an interruption,
    run the same command again. Nothing is written to disk but a small journal.

    \b
      datas3t push --datas3t photos ~/photos
      find . -name '*.jpg' | datas3t push --datas3t photos --files-from - --prefix jpg
    """
    from datas3t.client import FilesFailed

    if not source and files_from is None:
        raise click.UsageError("name a file or a folder to push, or a list with --files-from")
    began = time.monotonic()
    try:
        with options.client() as client, output.bars() as progress:
            done = client.push(
                datas3t,
                source,
                prefix=prefix,
                files_from=files_from,
                archive_size=archive_size,
                max_parallelism=max_parallelism,
                max_retries=max_retries,
                follow_links=follow_links,
                dry_run=dry_run,
                progress=progress,
            )
    except FilesFailed as failed:
        _show_push(datas3t, failed.result, dry_run=dry_run, as_json=as_json)
        raise
    _show_push(datas3t, done, dry_run=dry_run, as_json=as_json)
    if done.files and not dry_run:
        output.note(output.duration_and_rate(done.size, time.monotonic() - began))


@click.command()
@options.DATAS3T
@click.option("--output", "output_", required=True, type=paths.SOURCE, metavar="FOLDER", help="The folder to write to.")
@click.option("--first-datapoint", "first", type=options.KEY, help="The first key, inclusive.")
@click.option("--last-datapoint", "last", type=options.KEY, help="The last key, inclusive.")
@click.option("--match", metavar="PATTERN", help="Only paths that match, such as 'cats/**/*.jpg'.")
@click.option("--overwrite", is_flag=True, help="Replace files that have another size or checksum.")
@options.JSON
@options.server_url()
def pull(
    datas3t: str, output_: str, first: int | None, last: int | None, match: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write the datapoints of a datas3t as files, under the paths that they were pushed with.

    A datapoint without a path gets the name of its entry. Of one path, the newest datapoint is written. Files that are
    there already are not fetched again. Nothing is written outside of FOLDER, and no link in it is followed.

    \b
      datas3t pull --datas3t photos --output photos
      datas3t pull --datas3t photos --output cats --match 'cats/**/*.jpg'
    """
    from datas3t.client import FilesFailed

    if first is not None and last is not None:
        options.check_range(first, last)
    began = time.monotonic()
    try:
        with options.client() as client, output.bars() as progress:
            done = client.pull(
                datas3t, output_, first=first, last=last, match=match, overwrite=overwrite, progress=progress
            )
    except FilesFailed as failed:
        _show_pull(output_, failed.result, as_json=as_json)
        raise
    _show_pull(output_, done, as_json=as_json)
    if done.files:
        output.note(output.duration_and_rate(done.size, time.monotonic() - began))


def _show_pull(folder: str, done: "Pulled", *, as_json: bool) -> None:
    _show_messages("Not pulled: ", done.failures, done.failed)
    if as_json:
        output.as_json(
            {"files": done.files, "size_bytes": done.size, "unchanged": done.unchanged, "failed": done.failed}
        )
        return
    unchanged = f"; {done.unchanged} unchanged" if done.unchanged else ""
    output.result(f"{folder}: pulled {output.counted(done.files, 'file')}, {output.size(done.size)}{unchanged}")


def _show_push(datas3t: str, done: "Pushed", *, dry_run: bool, as_json: bool) -> None:
    _show_messages("Left out: ", done.notes, done.left_out)
    _show_messages("Not pushed: ", done.failures, done.failed)
    if as_json:
        output.as_json(
            {
                "files": done.files,
                "size_bytes": done.size,
                "archives": done.archives,
                "unchanged": done.unchanged,
                "left_out": done.left_out,
                "failed": done.failed,
            }
        )
        return
    what = "would push" if dry_run else "pushed"
    files, archives = output.counted(done.files, "file"), output.counted(done.archives, "archive")
    unchanged = f"; {done.unchanged} unchanged" if done.unchanged else ""
    output.result(f"{datas3t}: {what} {files}, {output.size(done.size)}, in {archives}{unchanged}")


def _show_messages(what: str, texts: Sequence[str], count: int) -> None:
    for text in texts[:_SHOWN]:
        output.note(f"{what}{text}")
    if len(texts) > _SHOWN:
        output.note(f"{what}and others, {count} in all")
