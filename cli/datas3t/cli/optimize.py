"""`datas3t optimize`: merges what is worth merging, once or for ever."""

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from datas3t.cli import options, output

if TYPE_CHECKING:
    from datas3t.client import Client
    from datas3t.client._calls.optimize import ProposedAggregate


@click.command()
@click.option("--datas3t", metavar="NAME", help="The datas3t.")
@click.option("--all", "everything", is_flag=True, help="All datas3ts.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done, moved and saved.")
@click.option("--daemon", is_flag=True, help="Go on until SIGTERM or Ctrl-C, looking again after each interval.")
@click.option("--interval", default="5m", show_default=True, type=options.DURATION, help="How long the daemon waits.")
@click.option(
    "--min-score", default=1.0, show_default=True, type=click.FloatRange(0), help="Leave out what scores less."
)
@click.option("--target-size", default="1GB", show_default=True, type=options.SIZE, help="What archives should reach.")
@click.option(
    "--max-aggregate-size", default="5GB", show_default=True, type=options.SIZE, help="No archive above this."
)
@click.option(
    "--max-operations", default=10, show_default=True, type=click.IntRange(1), help="Aggregates a round, at most."
)
@options.transfer
@options.server_url()
def optimize(
    datas3t: str | None, everything: bool, dry_run: bool, daemon: bool, interval: float, **limits: Any
) -> None:
    """Merge small dataranges into large ones, where it is worth it.

    A score of 1 means that the merge pays back with the first pass over the data. Nothing to do is no error.

    \b
      datas3t optimize --datas3t photos --dry-run
      datas3t optimize --all --daemon --interval 10m
    """
    if (datas3t is None) != everything:
        raise click.UsageError("give either --datas3t NAME or --all")
    stopping = _told_to_stop() if daemon else threading.Event()
    with options.client() as client:
        while True:
            names = [datas3t] if datas3t else [each.name for each in client.list_datas3ts()]
            for name in names:
                if not stopping.is_set():
                    _round(client, name, dry_run, daemon, stopping, **limits)
            if not daemon or stopping.wait(interval):
                return


def _round(
    client: "Client",
    name: str,
    dry_run: bool,
    daemon: bool,
    stopping: threading.Event,
    *,
    min_score: float,
    target_size: int,
    max_aggregate_size: int,
    max_operations: int,
    max_parallelism: int,
    max_retries: int,
) -> None:
    from datas3t.client import Datas3tError

    try:
        proposed = client.plan_aggregates(
            name,
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_operations=max_operations,
        )
        if not proposed and not daemon:
            output.note(f"{name}: nothing to do.")
        for each in proposed:
            if stopping.is_set():
                return
            output.result(_shown(name, each, "would merge" if dry_run else "merging"))
            if not dry_run:
                with output.bars() as progress:
                    client.aggregate(
                        name,
                        each.first,
                        each.last,
                        max_parallelism=max_parallelism,
                        max_retries=max_retries,
                        progress=progress,
                    )
    except Datas3tError as error:
        if not daemon:
            raise
        output.note(f"{name}: {error}; trying again after the interval")


def _shown(name: str, proposed: "ProposedAggregate", verb: str) -> str:
    return (
        f"{name}: {verb} {proposed.dataranges} dataranges, datapoints {proposed.first} to {proposed.last}, into one of "
        f"{output.size(proposed.size)}; {output.size(proposed.moved)} moved, {proposed.objects_saved} objects less, "
        f"score {proposed.score:.1f}"
    )


def _told_to_stop() -> threading.Event:
    """Set by SIGTERM or Ctrl-C: the aggregate at hand is finished first. A second signal ends it at once."""
    stopping = threading.Event()

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        threading.Thread(target=stopping.set, daemon=True).start()  # the waiter may hold the event's lock right now

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    return stopping
