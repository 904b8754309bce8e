"""The client in separate processes: across forks, after close, and how much memory it takes."""

import filecmp
import subprocess
import sys
from pathlib import Path

from datas3t.archive import names, write
from tests.client.archives import MIB, sample
from tests.client.sites import Site

FORK = """
import os, sys, threading
from datas3t.client import Client

url, name = sys.argv[1:]
client = Client(url)
handle = client.datas3t(name)
expected = handle.get_many(range(50))
stop = threading.Event()
failures = []

def busy():
    while not stop.is_set():
        try:
            assert len(client.list_dataranges(name)) == 1
            assert handle.get(7) == expected[7]
        except BaseException as error:
            failures.append(error)
            raise

def child():
    for key in range(50):
        assert handle.get(key) == expected[key]
    assert len(client.list_dataranges(name)) == 1

threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(20):
    pid = os.fork()
    if not pid:
        try:
            child()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
assert not failures, failures
child()
"""

INTERRUPTED_FORK = """
import os, signal
from datas3t.client._calls.fork import in_flight

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
for _ in range(2):
    with in_flight():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        pid = os.fork()  # waits for the call; what the handler raises meanwhile is printed
        if not pid:
            with in_flight():
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
with in_flight():
    print("called")
"""

AT_EXIT = """
from datas3t.client import Client

class Owner:
    def __init__(self):
        self.client = Client("http://127.0.0.1:9")
        self.client.connection

    def __del__(self, print=print):
        self.client.close()
        print("closed")

owner = Owner()
"""

CLOSED = """
import sys
from datas3t import v1
from datas3t.client import Client, FailedPrecondition

with Client(sys.argv[1]) as client:
    connection = client.connection
    connection.bucket.ListBuckets(v1.ListBucketsRequest())
for call in (
    lambda: connection.bucket.ListBuckets(v1.ListBucketsRequest()),  # which was used before
    lambda: connection.datas3t.ListDatas3ts(v1.ListDatas3tsRequest()),
    lambda: list(connection.datas3t.GetDatapointsBitmap(v1.GetDatapointsBitmapRequest(datas3t_name="any"))),
):
    try:
        call()
    except FailedPrecondition as error:
        print(error)
"""

MEMORY = """
import resource, sys
from datas3t.client import Client

url, name, path, output = sys.argv[1:]
with Client(url) as client:
    uploaded = client.upload_tar(name, path)
    client.download_tar(name, uploaded.first, uploaded.last, output)
    size = sum(len(datapoint.content) for datapoint in client.datas3t(name).scan())
    assert size > 250 << 20
try:  # not ru_maxrss, which includes the memory of the parent at the fork
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
except FileNotFoundError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(script: str, *arguments: object) -> str:
    """Run a script in a new process and return what it prints; fail if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_can_fork_while_its_threads_call_the_server_and_read(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 0, *[5000] * 50))
    run(FORK, site.client.url, site.name)


def test_an_interrupted_fork_does_not_hold_back_later_calls_and_forks() -> None:
    assert run(INTERRUPTED_FORK) == "called\n"


def test_a_client_can_be_closed_while_the_interpreter_shuts_down() -> None:
    assert run(AT_EXIT) == "closed\n"


def test_calls_on_a_closed_connection_raise_failed_precondition(site: Site) -> None:
    assert run(CLOSED, site.client.url).count("the client was closed") == 3


def test_a_large_archive_is_uploaded_downloaded_and_scanned_in_little_memory(site: Site, tmp_path: Path) -> None:
    path, output = tmp_path / "large.tar", tmp_path / "out.tar"
    with path.open("wb") as out:
        for key in range(256):
            out.write(write.header(names.entry_name(key, "bin"), MIB) + key.to_bytes(8, "big") * (MIB // 8))
        out.write(write.END)
    peak = int(run(MEMORY, site.client.url, site.name, path, output))
    assert filecmp.cmp(path, output, shallow=False)
    assert peak < 110 * MIB
