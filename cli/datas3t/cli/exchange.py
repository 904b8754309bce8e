"""Commands that exchange data with other formats: `import-webdataset`."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from datas3t.cli import options, output, paths

if TYPE_CHECKING:
    from datas3t.client import ImportedShards

_SHARD_SIZE = 1 << 30  # as SHARD_SIZE in datas3t.client, which takes long to import
_SHOWN = 20  # messages


@click.command("import-webdataset")
@options.DATAS3T
@click.argument("shard", nargs=-1, required=True, type=paths.FILE)
@click.option("--fields", type=options.LIST, metavar="FIELDS", help="The fields to import, such as jpg,json. [all]")
@click.option("--nest", is_flag=True, help="Make each sample one datapoint, a TAR archive of its files.")
@click.option("--bucket", metavar="NAME", help="The bucket configuration of datas3ts that are added.")
@click.option(
    "--archive-size",
    default=_SHARD_SIZE,
    show_default="1GB",
    type=options.SIZE,
    help="The size from which the samples of a shard go on in other archives.",
)
@options.transfer_of(4)
@options.JSON
@options.server_url()
def import_webdataset(
    datas3t: str,
    shard: Sequence[str],
    fields: tuple[str, ...] | None,
    nest: bool,
    bucket: str | None,
    archive_size: int,
    max_parallelism: int,
    max_retries: int,
    as_json: bool,
) -> None:
    """Import shards that WebDataset or img2dataset wrote: files, http(s) URLs, or - for standard input.

    Samples are numbered in the order of the shards. Each field becomes a datas3t NAME--FIELD, and a sample has the same
    key in all of them. Names are kept in the tables `files`. To resume after an interruption, run the same command
    again; shards that were imported are not imported again.

    \b
      datas3t import-webdataset --datas3t train 'shards/train-{000..145}.tar' --fields jpg,json
      aws s3 cp s3://bucket/train-000.tar - | datas3t import-webdataset --datas3t train -
    """
    from datas3t.client import FilesFailed

    if nest and fields is not None:
        raise click.UsageError("--fields and --nest exclude each other")
    if fields is not None and not fields:
        raise click.UsageError("--fields names no field; leave it out for all")
    began = time.monotonic()
    try:
        with options.client() as client, output.bars() as progress:
            done = client.import_webdataset(
                datas3t,
                shard,
                fields=fields,
                nest=nest,
                bucket=bucket,
                archive_size=archive_size,
                max_parallelism=max_parallelism,
                max_retries=max_retries,
                progress=progress,
            )
    except FilesFailed as failed:
        _show(datas3t, failed.result, as_json=as_json)
        raise
    _show(datas3t, done, as_json=as_json)
    if done.samples:
        output.note(output.duration_and_rate(done.size, time.monotonic() - began))


def _show(datas3t: str, done: "ImportedShards", *, as_json: bool) -> None:
    for what, texts, count in (("Note: ", done.notes, done.left_out), ("Not imported: ", done.failures, done.failed)):
        for text in texts[:_SHOWN]:
            output.note(f"{what}{text}")
        if len(texts) > _SHOWN:
            output.note(f"{what}and others, {count} in all")
    if as_json:
        output.as_json(
            {
                "shards": done.shards,
                "samples": done.samples,
                "size_bytes": done.size,
                "datas3ts": done.datas3ts,
                "unchanged": done.unchanged,
                "left_out": done.left_out,
                "failed": done.failed,
            }
        )
        return
    shards, samples = output.counted(done.shards, "shard"), output.counted(done.samples, "sample")
    unchanged = f"; {done.unchanged} unchanged" if done.unchanged else ""
    output.result(f"{datas3t}: imported {shards}, {samples}, {output.size(done.size)}{unchanged}")
    for name in done.datas3ts.values():
        output.result(name)
