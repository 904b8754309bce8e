"""`datas3t up`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept.  [default: the user's data folder]",
)
@click.option(
    "--addr", default="127.0.0.1:8765", show_default=True, metavar="HOST:PORT", help="Where the server listens."
)
def up(data_dir: Path | None, addr: str) -> int:
    """Start everything on this machine: PostgreSQL, an S3 server, datas3t.

    A bucket configuration `local` is there already. State lives in the data directory and survives restarts; Ctrl-C or
    SIGTERM stops all of it. DIR/stack.json holds addresses and keys for scripts.

    \b
      datas3t up
      datas3t up --data-dir ./data --addr 127.0.0.1:0
    """
    from datas3t.embedded.stack import up as run

    return run(data_dir, addr)
