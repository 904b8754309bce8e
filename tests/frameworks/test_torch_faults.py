"""Training under faults: no sample is wrong or lost, nothing hangs, and nothing is left behind."""

import itertools
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from datas3t.client import Client, Datas3t, TransferFailed
from datas3t.torch import Datapoints, Loader, Stream
from datas3t.transport.engine import Engine
from tests.client.sites import Site
from tests.frameworks.datasets import Uploader, key_in
from tests.frameworks.test_torch_loader import as_list, expected
from tests.support.faults import Fault
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


def key_of(sample: Any) -> int:
    return key_in(sample.content)


def test_a_fork_after_the_client_was_used(numbers: Datas3t) -> None:
    assert key_in(numbers.get(3)) == 3
    assert [key_in(each) for each in numbers.get_many([150, 2])] == [150, 2]
    loaded: Loader[Any] = Loader(Datapoints(numbers, transform=key_of), 40, seed=7, num_workers=2, collate_fn=as_list)
    batches = []
    for batch in loaded:
        assert key_in(numbers.get(batch[0])) == batch[0]  # at the same time as its workers
        batches.append(batch)
    assert batches == expected(0, 40)


def test_nothing_is_open_after_epochs(numbers: Datas3t) -> None:
    me = psutil.Process()

    def epoch() -> None:
        loaded: Loader[Any] = Loader(Datapoints(numbers, transform=key_of), 40, num_workers=2, collate_fn=as_list)
        assert len([*itertools.islice(loaded, 2)]) == 2

    epoch()
    files, threads = me.num_fds(), me.num_threads()
    for _ in range(3):
        epoch()
    wait_until(lambda: (me.num_fds(), me.num_threads()) <= (files, threads), 30, "the end of the workers")


ENDLESS = """
import sys
from datas3t.client import Client
from datas3t.torch import Datapoints, Loader

loader = Loader(Datapoints(Client(sys.argv[1]).datas3t(sys.argv[2])), 8, num_workers=2)
while True:
    for step, batch in enumerate(loader):
        if step == 2:
            print(loader.epoch, flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_was_ended(numbers: Datas3t, signum: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDLESS, numbers._session.url, numbers.name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "0\n"
        assert run.stdout.readline() == "1\n"
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) >= 2
        run.send_signal(signum)
        assert run.wait(60) != 0
        wait_until(lambda: not any(each.is_running() for each in workers), 60, "the end of the workers")
    pids = {str(pid) for pid in (run.pid, *(each.pid for each in workers))}
    assert [name for name in os.listdir("/dev/shm") if pids & {*name.split("_")}] == []


def start(folder: Path, database: str, services: "Services", port: int | None = None) -> ServerProcess:
    """Start a server whose URLs end after five seconds."""
    options = ["--url-lifetime", "5"]
    server = ServerProcess(folder, database, services.encryption_key, port=port, options=options)
    server.wait_ready()
    return server


def is_after(moment: float) -> bool:
    return time.monotonic() > moment


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["points", "stream"])
def test_an_epoch_during_which_everything_changes(
    database: str, services: "Services", bucket: str, tmp_path: Path, kind: str
) -> None:
    """Uploads, an aggregation, URLs that end, a server that is killed: each sample is read once, and is right."""
    server, s3 = start(tmp_path, database, services), services.s3
    try:
        with Client(server.url) as client:
            client.add_bucket(
                bucket, endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key
            )
            client.add_datas3t("run", bucket=bucket)
            uploader = Uploader(client, "run", tmp_path)
            for first in range(0, 240, 40):
                uploader.upload(first, first + 39)
            options: dict[str, Any] = {"num_workers": 2, "prefetch_factor": 1, "collate_fn": as_list}
            source = uploader.handle
            loaded: Loader[Any]
            if kind == "points":
                loaded = Loader(Datapoints(source, transform=key_of), 8, uneven="keep", **options)
            else:
                loaded = Loader(Stream(source, transform=key_of, block=4, window=5, uneven="keep"), 8, **options)

            seen: list[int] = []
            for step, batch in enumerate(loaded):
                seen += batch
                if step == 2:
                    uploader.upload(240, 299)
                elif step == 4:
                    client.aggregate("run", 0, 239)
                elif step == 6:  # until all URLs that the workers have are of no use
                    wait_until(partial(is_after, time.monotonic() + 6), what="the end of the URLs")
                elif step == 8:
                    server.kill()
                    server = start(tmp_path, database, services, server.port)
            assert sorted(seen) == list(range(240))
            assert len(uploader.handle) == 300
    finally:
        server.kill()


@pytest.mark.timeout(300)
def test_s3_that_stalls(relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = dict.fromkeys(("stall_timeout", "small_stall_timeout"), 1.0)
    monkeypatch.setattr(Engine.__init__, "__kwdefaults__", {**(Engine.__init__.__kwdefaults__ or {}), **short})
    uploader = Uploader(relayed.client, relayed.name, tmp_path)
    uploader.upload(0, 99)
    assert relayed.relay is not None
    loaded: Loader[Any] = Loader(
        Datapoints(uploader.handle, transform=key_of), 10, uneven="keep", num_workers=2, collate_fn=as_list
    )

    # A request of each worker stalls: it is repeated.
    relayed.relay.plan(Fault(stall_after=0, only=b".tar"), Fault(stall_after=300, only=b".tar"))
    assert sorted(itertools.chain(*loaded)) == list(range(100))
    assert relayed.relay.planned == 0

    # All do: the loader raises, and works again when S3 does.
    relayed.relay.always = Fault(stall_after=0)
    with pytest.raises(TransferFailed):
        list(loaded)
    relayed.relay.always = Fault()
    assert sorted(itertools.chain(*loaded)) == list(range(100))
