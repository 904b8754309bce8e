"""`datas3t aggregate` and `datas3t optimize`: merge small dataranges into large ones."""

import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from datas3t.cli import completion, options, output

if TYPE_CHECKING:
    from datas3t.client import Client, ProposedAggregate

_WAKE_SECONDS = 0.5


@click.command()
@options.DATAS3T
@options.FIRST
@options.LAST
@options.transfer
@options.server_url()
def aggregate(datas3t: str, first: int, last: int, max_parallelism: int, max_retries: int) -> None:
    """Merge all dataranges in a range of keys into one that holds the same datapoints.

    S3 copies what its rules allow, this client moves the rest, and readers are not interrupted. To resume after an
    interruption, run the same command again.

    \b
      datas3t aggregate --datas3t photos --first-datapoint 1 --last-datapoint 100000
    """
    options.check_range(first, last)
    with options.client() as client, output.bars() as progress:
        done = client.aggregate(
            datas3t, first, last, max_parallelism=max_parallelism, max_retries=max_retries, progress=progress
        )
    output.result(f"{datas3t}: datapoints {done.first} to {done.last}, {output.size(done.size)}")
    output.note(f"S3 copied {output.size(done.bytes_copied)}; this client moved {output.size(done.bytes_moved)}.")


@click.command()
@click.option("--datas3t", metavar="NAME", help="The name of the datas3t.", shell_complete=completion.datas3ts)
@click.option("--all", "all_datas3ts", is_flag=True, help="Optimize all datas3ts.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the merges of the first pass with their cost and saving, but do not start them.",
)
@click.option("--daemon", is_flag=True, help="Repeat after each interval, until SIGTERM or Ctrl-C.")
@click.option(
    "--interval", default="5m", show_default=True, type=options.DURATION, help="The pause between daemon rounds."
)
@click.option(
    "--min-score",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Skip merges that score less. 0.5 also merges archives that will soon be merged again.",
)
@click.option(
    "--target-size", default="1GB", show_default=True, type=options.SIZE, help="Merge archives smaller than this."
)
@click.option(
    "--max-aggregate-size",
    default="5GB",
    show_default=True,
    type=options.SIZE,
    help="Create no archive larger than this.",
)
@click.option(
    "--max-operations",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="The maximum number of merges in a pass. Passes follow until there is nothing left to merge.",
)
@options.transfer
@options.server_url()
def optimize(
    datas3t: str | None, all_datas3ts: bool, dry_run: bool, daemon: bool, interval: float, **limits: Any
) -> None:
    """Merge small dataranges into large ones where that saves more than it costs.

    A merge with a score of 1 pays for itself when all its data has been read ten times. Merges are made pass after
    pass, until none scores enough. If there is nothing to merge, the command succeeds.

    Then small files of tables are merged as well, if pyarrow is installed.

    \b
      datas3t optimize --datas3t photos --dry-run
      datas3t optimize --all --daemon --interval 10m
    """
    if (datas3t is None) != all_datas3ts:
        raise click.UsageError("give either --datas3t NAME or --all")
    stopping = _event_set_by_signals() if daemon else threading.Event()
    with options.client() as client:
        while True:
            names = [datas3t] if datas3t else [each.name for each in client.list_datas3ts()]
            for name in names:
                if not stopping.is_set():
                    _optimize_one(client, name, dry_run, daemon, stopping, **limits)
            if not daemon or _ended(stopping, interval):
                return


def _optimize_one(
    client: "Client",
    name: str,
    dry_run: bool,
    daemon: bool,
    stopping: threading.Event,
    *,
    max_parallelism: int,
    max_retries: int,
    **limits: Any,
) -> None:
    """Merge what is worth it in one datas3t. A daemon prints errors and goes on; otherwise they are raised."""
    from datas3t.client import Datas3tError

    try:
        proposals = client.plan_aggregates(name, **limits)
        if not proposals and not daemon:
            output.note(f"{name}: nothing to merge.")
        while proposals:
            for each in proposals:
                if stopping.is_set():
                    return
                output.result(_description(name, each, "would merge" if dry_run else "merging"))
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
            proposals = [] if dry_run else client.plan_aggregates(name, **limits)
        _compact_tables(client, name, dry_run, stopping)
    except Datas3tError as error:
        if not daemon:
            raise
        output.note(f"{name}: {error}; retrying after the interval")


def _compact_tables(client: "Client", name: str, dry_run: bool, stopping: threading.Event) -> None:
    """Merge small files of the datas3t's tables. Without pyarrow they are left alone, which is said."""
    from datas3t.client import PackageMissing

    try:
        for each in client.datas3t(name).compact_tables(dry_run=dry_run):
            verb = "would merge" if dry_run else "merged"
            output.result(
                f"{name}: {verb} {each.files} files of table {each.table} into one of {output.size(each.size)}"
            )
            if stopping.is_set():
                return
    except PackageMissing as error:
        output.note(f"{name}: its tables are left alone: {error}")


def _description(name: str, proposal: "ProposedAggregate", verb: str) -> str:
    return (
        f"{name}: {verb} {output.counted(proposal.dataranges, 'datarange')}, "
        f"datapoints {proposal.first} to {proposal.last}, into one of "
        f"{output.size(proposal.size)}: moves {output.size(proposal.moved)}, "
        f"saves {output.counted(proposal.objects_saved, 'object')}, "
        f"score {proposal.score:.1f}"
    )


def _ended(stopping: threading.Event, seconds: float) -> bool:
    """Wait for the event for at most `seconds`, and return whether it is set.

    The system may deliver a signal to another thread. The main thread must wake up for the handler to run.
    """
    deadline = time.monotonic() + seconds
    while not stopping.wait(min(_WAKE_SECONDS, max(deadline - time.monotonic(), 0))):
        if time.monotonic() >= deadline:
            return False
    return True


def _event_set_by_signals() -> threading.Event:
    """Return an event that the first SIGTERM or Ctrl-C sets, so that a running merge finishes first.

    A second signal has its default effect and ends the process at once.
    """
    stopping = threading.Event()

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        # The handler interrupts the main thread, which may hold the event's lock in wait(): set() here could deadlock.
        threading.Thread(target=stopping.set, daemon=True).start()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    return stopping
