"""`datas3t aggregate`: many dataranges become one."""

import click

from datas3t.cli import options, output


@click.command()
@options.DATAS3T
@options.FIRST
@options.LAST
@options.transfer
@options.server_url()
def aggregate(datas3t: str, first: int, last: int, max_parallelism: int, max_retries: int) -> None:
    """Merge all dataranges from one key to another into a single one, with exactly their datapoints.

    S3 copies what it can by itself; readers notice nothing. Run again after an interruption, it goes on where it
    stopped.

    \b
      datas3t aggregate --datas3t photos --first-datapoint 1 --last-datapoint 100000
    """
    options.check_range(first, last)
    with options.client() as client, output.bars() as progress:
        done = client.aggregate(
            datas3t, first, last, max_parallelism=max_parallelism, max_retries=max_retries, progress=progress
        )
    output.result(f"{datas3t}: datapoints {done.first} to {done.last}, {output.size(done.size)}")
    output.note(f"{output.size(done.bytes_copied)} copied by S3, {output.size(done.bytes_moved)} moved.")
