"""Uploads and downloads of an archive by the SDK and by bare pycurl: the same parts, in turns, on the same S3 server.

    PYTHONPATH=. python bench/transfer.py [--rounds 5] [--mib 1024] [--size 4GB] [--folder DIR]

Bare pycurl checks nothing, and its URLs are signed before its time starts. The SDK indexes the archive, calls the
server, which checks and commits the upload, and writes to a temporary file that it renames. The bytes are compared.
Then the memory of client and server is measured while an archive of `--size` (0: none) is uploaded and downloaded.
The disk needs space for twice what is sent.
"""

import argparse
import contextlib
import filecmp
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psutil
import pycurl
from botocore.config import Config

from bench.bare import Bare, cut
from datas3t.archive import names, write
from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.support.stack import running_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import S3

PART, CHUNK, PARALLELISM = 20 << 20, 5 << 20, 4
MIB = 1 << 20


class Site:
    """The server, its S3, and the archive that the contestants send."""

    def __init__(self, client: Client, s3: "S3", archive: Path, last: int) -> None:
        self.client = client
        self.archive = archive
        self.last = last  # the last key; the first is 0
        self.size = archive.stat().st_size
        self.target = archive.with_name("downloaded.tar")
        self._bucket = s3.bucket
        self._s3: S3Client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name="us-east-1",
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def round(self, number: int) -> dict[str, float]:
        """Return the seconds of each contestant's upload and download.

        The contestants alternate in starting first. Both download the object that the SDK uploaded. In the end all
        objects are deleted.
        """
        name = f"round-{number}"
        self.client.add_datas3t(name, bucket="local")
        uploaded: dict[str, str] = {}  # receives the ETag of bare pycurl's object
        ups = {"SDK up": lambda: self._sdk_up(name), "bare up": self._bare_up(name, uploaded)}
        times = self._turns(ups, number)
        (segment,) = self.client.presign_download(name, 0, self.last)
        if uploaded["etag"] != segment.etag:
            sys.exit("the uploaded objects differ")
        downs = {"SDK down": lambda: self._sdk_down(name), "bare down": lambda: self._bare_down(segment.url)}
        times |= self._turns(downs, number, self._compare)
        self.client.clear_datas3t(name)
        self._s3.delete_object(Bucket=self._bucket, Key=f"bare/{name}")
        return times

    @staticmethod
    def _turns(
        contestants: Mapping[str, Callable[[], object]], number: int, afterwards: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        times = {}
        for each in sorted(contestants, reverse=bool(number % 2)):
            times[each] = timed(contestants[each])
            afterwards()
        return times

    def _sdk_up(self, name: str) -> None:
        self.client.upload_tar(name, self.archive, max_parallelism=PARALLELISM)

    def _sdk_down(self, name: str) -> None:
        self.client.download_tar(name, 0, self.last, self.target, max_parallelism=PARALLELISM, chunk_size=CHUNK)

    def _bare_up(self, name: str, uploaded: dict[str, str]) -> Callable[[], None]:
        """Sign the URLs, and return a function that uploads."""
        bucket, key = self._bucket, f"bare/{name}"
        upload_id = self._s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        target = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
        parts = cut(self.size, PART)
        urls = [
            self._s3.generate_presigned_url("upload_part", {**target, "PartNumber": number})
            for number in range(1, len(parts) + 1)
        ]

        def up() -> None:
            with self.archive.open("rb") as file:
                etags = put(Bare(PARALLELISM), urls, parts, file.fileno())
            done = self._s3.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]},
            )
            uploaded["etag"] = done["ETag"].strip('"')

        return up

    def _bare_down(self, url: str) -> None:
        with self.target.open("wb") as file:
            Bare(PARALLELISM).download(url, cut(self.size, CHUNK), file.fileno())

    def _compare(self) -> None:
        if not filecmp.cmp(self.archive, self.target, shallow=False):
            sys.exit("the downloaded archive differs from the uploaded one")
        self.target.unlink()


def put(bare: Bare, urls: list[str], parts: list[range], fd: int) -> list[str]:
    """PUT the parts, and return their ETags."""
    etags = [""] * len(parts)

    def setup(number: int) -> Callable[[pycurl.Curl], None]:
        place = parts[number]
        at = place.start

        def read(size: int) -> bytes:
            nonlocal at
            piece = os.pread(fd, min(size, place.stop - at), at)
            at += len(piece)
            return piece

        def read_header(line: bytes) -> None:
            if line.lower().startswith(b"etag:"):
                etags[number] = line[5:].strip().decode()

        def prepare(curl: pycurl.Curl) -> None:
            curl.setopt(pycurl.URL, urls[number])
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.HTTPHEADER, ["Expect:"])
            curl.setopt(pycurl.INFILESIZE_LARGE, len(place))
            curl.setopt(pycurl.READFUNCTION, read)
            curl.setopt(pycurl.HEADERFUNCTION, read_header)

        return prepare

    bare.run(map(setup, range(len(parts))), lambda _: None)
    return etags


def timed(action: Callable[[], object]) -> float:
    """Return the seconds of an action."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def make(path: Path, size: int, *, random_contents: bool) -> int:
    """Write an archive of about `size` bytes in entries of 64 KiB, and return its last key."""
    entry = 64 << 10
    count = max(1, size // (entry + 512))
    source = random.Random(1)
    content = source.randbytes(entry)
    with path.open("wb") as out:
        for key in range(count):
            out.write(write.header(names.entry_name(key, "bin"), entry))
            out.write(source.randbytes(entry) if random_contents else content)
        out.write(write.END)
    return count - 1


def report(times: list[dict[str, float]], size: int) -> None:
    """Print the table of upload and download rates."""
    print(f"\n{size / MIB:,.0f} MiB, MB/s: median (least-most) of {len(times)} rounds\n")
    print("| | SDK | bare pycurl | SDK / bare |")
    print("|---|---|---|---|")
    for way in ("up", "down"):
        sdk, bare = ([size / 1e6 / each[f"{who} {way}"] for each in times] for who in ("SDK", "bare"))
        ratios = [one / other for one, other in zip(sdk, bare, strict=True)]
        print(f"| {way} | {spread(sdk, '.0f')} | {spread(bare, '.0f')} | {spread(ratios, '.2f')} |", flush=True)


def spread(values: list[float], form: str) -> str:
    """Format the median, the least and the greatest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


@contextlib.contextmanager
def watched(pids: dict[str, int]) -> Iterator[dict[str, list[float]]]:
    """Return lists with the first and the highest memory use of each process, in MB, updated during the block."""
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    seen = {name: [rss(process)] * 2 for name, process in processes.items()}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for name, process in processes.items():
                with contextlib.suppress(psutil.Error):
                    seen[name][1] = max(seen[name][1], rss(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def rss(process: psutil.Process) -> float:
    """Return the memory use of a process, in MB."""
    return float(process.memory_info().rss) / 1e6


def memory(url: str, server: int, archive: Path, last: int) -> None:
    """Print the memory of client and server. The client is a child process, which prints a line before each step."""
    client = [sys.executable, "-m", "bench.transfer", "--client", url, str(archive), str(last)]
    print(f"\nRSS in MB while {archive.stat().st_size / 1e9:.2f} GB are uploaded and downloaded\n")
    print("| | client before | client peak | server before | server peak | seconds |")
    print("|---|---|---|---|---|---|")
    with subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        for way in ("up", "down"):
            assert process.stdout.readline() == f"ready {way}\n"
            with watched({"client": process.pid, "server": server}) as seen:
                print("go", file=process.stdin, flush=True)
                seconds = float(process.stdout.readline())
            figures = [*seen["client"], *seen["server"], seconds]
            print(f"| {way} | {' | '.join(f'{figure:.0f}' for figure in figures)} |", flush=True)
    if process.returncode:
        sys.exit("the client failed")


def as_client(url: str, archive: Path, last: int) -> None:
    """Upload and download, in the child process; wait for a line before each, and print its seconds."""
    target = archive.with_name("downloaded.tar")
    with Client(url) as client:
        client.add_datas3t("memory", bucket="local")
        for way in ("up", "down"):
            print(f"ready {way}", flush=True)
            input()
            if way == "up":
                seconds = timed(lambda: client.upload_tar("memory", archive))
            else:
                seconds = timed(lambda: client.download_tar("memory", 0, last, target))
            print(seconds, flush=True)
    if not filecmp.cmp(archive, target, shallow=False):
        sys.exit("the downloaded archive differs from the uploaded one")


def bytes_of(text: str) -> int:
    """Return the number of bytes of a size such as "4GB"."""
    units = {"GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10}
    return round(float(text[:-2]) * units[text[-2:]]) if text[-2:] in units else int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--size", type=bytes_of, default=4 << 30)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        url, archive, last = options.client
        as_client(url, Path(archive), int(last))
        return
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
            archive = folder / "archive.tar"
            if options.rounds:
                last = make(archive, options.mib * MIB, random_contents=True)
                site = Site(client, s3, archive, last)
                site.round(0)  # to warm up
                report([site.round(number) for number in range(1, options.rounds + 1)], site.size)
            if options.size:
                last = make(archive, options.size, random_contents=False)
                memory(server.url, server.pid, archive, last)


if __name__ == "__main__":
    main()
