"""What an import of shards has done, so that the same import, run again, goes on where it was.

A file of JSON objects, one on a line, that only grows:

    {"shard", "stamp"}                  a shard was begun
    {"piece", "shard", "start", …}      samples of it were read, and are about to get their keys; see `Part`
    {"done", "first"}                   such a piece was committed, with the keys from `first` on
    {"end", "samples"}                  a shard was read to its end
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datas3t.client.errors import FailedPrecondition, FileError
from datas3t.local import folders
from datas3t.local.locks import locked


@dataclass(slots=True)
class Part:
    """Consecutive samples of a shard that are committed together.

    Attributes:
        id: What makes its requests for keys the same when they are repeated.
        start: The number of the first sample within the shard.
        count: How many samples it has.
        fields: The fields that they have.
        digest: What is the same for files with the same names and sizes.
        target: What the key of the first sample presumably is.
        gaps: How many keys before it stay unused, by field.
        first: The key of the first sample, if it is committed; otherwise None.
    """

    id: str
    start: int
    count: int
    fields: tuple[str, ...]
    digest: str
    target: int
    gaps: dict[str, int]
    first: int | None = None


@dataclass(slots=True)
class Progress:
    """What was done of one shard.

    Attributes:
        stamp: What the shard was like.
        parts: What was read, in the order of its samples.
        samples: How many samples it has, if it was read to its end; otherwise None.
    """

    stamp: str
    parts: list[Part] = field(default_factory=list)
    samples: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether all samples are committed."""
        return self.samples is not None and all(part.first is not None for part in self.parts)


class Journal:
    """The journal of the imports into one datas3t.

    Args:
        server: The server's URL.
        name: The name.
        how: What distinguishes this import from others of the same shards, such as the fields that it takes.
    """

    def __init__(self, server: str, name: str, how: str) -> None:
        digest = hashlib.sha256(f"{server}\0{name}\0{how}".encode()).hexdigest()[:32]
        self.kind = f"imports/{digest}"
        self._folder = folders.state() / self.kind
        self._shards: dict[str, Progress] = {}
        self._parts: dict[str, Part] = {}
        self._fd = -1
        self._lock = threading.Lock()

    @property
    def scratch(self) -> Path:
        """The folder for archives until they are committed."""
        return self._folder / "archives"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep other processes from importing into the same datas3t during the block, and read what was done.

        Raises:
            FailedPrecondition: Another process imports.
            FileError: The folder cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self._folder / "lock", wait=0):
                shutil.rmtree(self.scratch, ignore_errors=True)
                try:
                    self.scratch.mkdir(mode=0o700)
                    self._read()
                    yield
                finally:
                    if self._fd >= 0:
                        os.close(self._fd)
                    shutil.rmtree(self.scratch, ignore_errors=True)
        except BlockingIOError:
            raise FailedPrecondition("another import into this datas3t is running; wait for it, or stop it") from None

    def shard(self, name: str) -> Progress | None:
        """Return what was done of a shard; None if it was not begun."""
        return self._shards.get(name)

    @property
    def shards(self) -> dict[str, Progress]:
        """What was done of each shard."""
        return dict(self._shards)

    def begin(self, name: str, stamp: str) -> Progress:
        """Note that a shard is begun."""
        self._write({"shard": name, "stamp": stamp})
        return self._shards[name]

    def add(self, name: str, part: Part) -> Part:
        """Note what was read of a shard, before it gets its keys. Return what takes the part's place."""
        about = asdict(part)
        del about["first"]
        self._write({"piece": about.pop("id"), "shard": name, **about})
        return self._parts[part.id]

    def done(self, part_id: str, first: int) -> None:
        """Note that a part is committed."""
        self._write({"done": part_id, "first": first})

    def end(self, name: str, samples: int) -> None:
        """Note that a shard was read to its end."""
        self._write({"end": name, "samples": samples})

    def forget(self, name: str) -> None:
        """Forget a shard, whose datapoints were all deleted."""
        self._shards.pop(name, None)

    def _read(self) -> None:
        path = self._folder / "journal.jsonl"
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with path.open("rb") as lines:
                for line in lines:
                    with suppress(ValueError, TypeError, KeyError, AttributeError):  # the last one may be torn
                        self._note(json.loads(line))
            os.write(self._fd, b"\n")
        except OSError as error:
            raise FileError(f"{path} cannot be used: {error.strerror}") from None

    def _write(self, about: dict[str, Any]) -> None:
        line = json.dumps(about)
        with self._lock:
            try:
                os.write(self._fd, line.encode() + b"\n")
                os.fsync(self._fd)
            except OSError as error:
                raise FileError(f"the journal {self._folder} cannot be written: {error.strerror}") from None
            self._note(json.loads(line))

    def _note(self, about: dict[str, Any]) -> None:
        if "piece" in about:
            shard = about.pop("shard")
            part = Part(about.pop("piece"), **about)
            self._shards[shard].parts.append(part)
            self._parts[part.id] = part
        elif "shard" in about:
            self._shards[about["shard"]] = Progress(about["stamp"])
        elif "done" in about:
            self._parts[about["done"]].first = about["first"]
        elif "end" in about:
            self._shards[about["end"]].samples = about["samples"]
