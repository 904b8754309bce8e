"""A client of the soak run: pushes a folder that grows and changes, and labels what it has pushed.

    python -m tests.faults.pusher LOG DATAS3T SEED URL...

It is killed at any time and started again with the same log, beside which the folder is. The pushes are processes of
`datas3t push`, which it kills itself as well. The content of a file follows from its path and its version, and no
version is written twice. Labels are rows of a table, to which several pushers append at the same time, and which they
read and compact. `check` compares what is stored with the logs.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

import pyarrow.compute as pc

from datas3t.archive.checksums import crc
from datas3t.client import Client, Datas3t, Datas3tError, NotFound
from tests.faults.writer import entries
from tests.support.stack import tied

LABELS = "labels"
_FILES = 60  # paths of a pusher
_ARCHIVE_SIZE = "64KB"
_PATIENCE = 240  # seconds for a push, which ends by itself when S3 stays away


def content(path: str, version: int) -> bytes:
    """Return the content of this version of a file."""
    source = random.Random(f"{path} {version}")
    return f"{path} {version}\n".encode() + source.randbytes(source.choice((0, 10, 700, 5_000, 40_000)))


def described(body: bytes) -> tuple[str, int]:
    """Return the path and the version that a content has in its first line."""
    path, version = body.split(b"\n", 1)[0].decode().split(" ")
    return path, int(version)


class Pusher:
    """Does one random step after another, on any of the servers. Its paths are in a folder that has its seed's name."""

    def __init__(self, log: Path, name: str, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        self._urls = urls
        self._prefix = str(seed)
        self._source = log.parent / "source"
        self._source.mkdir(exist_ok=True)
        earlier = list(entries(log))
        self._number = max([0, *(each["number"] for each in earlier if "number" in each)])
        self._random = random.Random(seed * 1_000 + len(earlier))
        self._clients = [Client(url, timeout=10) for url in urls]
        self._labels = Labels()
        for entry in earlier:
            self._labels.take(entry)
        os.environ["XDG_STATE_HOME"] = str(log.parent / "state")

    def run(self) -> None:
        """Repeat until the process that started this one has ended."""
        parent = os.getppid()
        steps: list[tuple[Callable[[Client], None], int]] = [  # with their weights
            (self._push, 6),
            (self._label, 4),
            (self._read_labels, 4),
            (self._compact, 1),
        ]
        self._change()
        while os.getppid() == parent:
            step = self._random.choices(*zip(*steps, strict=True))[0]
            try:
                step(self._random.choice(self._clients))
            except Datas3tError as error:
                self._note("failed", operation=step.__name__[1:], error=f"{type(error).__name__}: {error}")

    def _change(self) -> None:
        """Add, change and remove some files. Each appears whole."""
        for _ in range(self._random.randrange(1, 20)):
            name = f"{self._random.randrange(5)}/{self._random.randrange(_FILES)}.bin"
            file, path = self._source / name, f"{self._prefix}/{name}"
            if not self._random.randrange(6):
                file.unlink(missing_ok=True)
                continue
            self._number += 1
            self._note("made", path=path, number=self._number)
            file.parent.mkdir(exist_ok=True)
            new = self._log.parent / "new"
            new.write_bytes(content(path, self._number))
            new.replace(file)

    def _push(self, _: Client) -> None:
        """Change the folder and push it in a process of its own, which is killed sometimes."""
        if self._random.randrange(3):
            self._change()
        files = dict(described(each.read_bytes()) for each in self._source.glob("*/*.bin"))
        url = self._random.choice(self._urls)
        options = ["--prefix", self._prefix, "--archive-size", _ARCHIVE_SIZE, "--server-url", url]
        command = [sys.executable, "-m", "datas3t", "push", "--datas3t", self._name, *options, str(self._source)]
        killed_after = None if self._random.randrange(3) else self._random.uniform(0.8, 3)
        process = subprocess.Popen(tied(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            errors = process.communicate(timeout=killed_after or _PATIENCE)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            errors = process.communicate()[1]
        if process.returncode == 0:
            self._note("done", operation="push", files=files)
        elif process.returncode == -SIGKILL and killed_after:
            self._note("killed", operation="push")
        elif process.returncode == 1 and "Traceback" not in errors:
            self._note("failed", operation="push", error=errors.strip().rsplit("\n", 1)[-1])
        else:
            self._note("wrong", error=f"push ended with {process.returncode}: {errors[-2_000:]}")

    def _label(self, client: Client) -> None:
        """Label some of the files that are pushed, by their paths or by their keys."""
        paths = [each for each in self._pushed() if self._random.randrange(2)]
        if not paths:
            return
        handle = client.datas3t(self._name)
        keys = handle.find_many(paths)
        self._number += 1
        by_path = self._random.randrange(2)
        rows = [{"path": path} if by_path else {"key": key} for path, key in zip(paths, keys, strict=True)]
        self._note_labels("begin", keys)
        handle.table(LABELS).append([each | {"number": self._number, "owner": self._prefix} for each in rows])
        self._note_labels("done", keys)

    def _note_labels(self, what: str, keys: list[int]) -> None:
        entry = {"operation": "label", "keys": keys, "number": self._number}
        self._labels.take({"what": what, **entry})
        self._note(what, **entry)

    def _read_labels(self, client: Client) -> None:
        """Read the own rows, while others append and compact: each must be as new as the last that was acknowledged."""
        with contextlib.suppress(NotFound):
            table = client.datas3t(self._name).table(LABELS)
            rows = table.read(["key", "number"], where=pc.field("owner") == self._prefix)
            for wrong in self._labels.broken(numbers_of(rows)):
                self._note("wrong", error=wrong)
            self._note("done", operation="read labels")

    def _compact(self, client: Client) -> None:
        with contextlib.suppress(NotFound):
            merged = list(client.datas3t(self._name).table(self._random.choice((LABELS, "files"))).compact())
            self._note("done", operation="compact", merged=len(merged))

    def _pushed(self) -> list[str]:
        """Return the paths that must be stored."""
        return sorted({path for each in entries(self._log) for path in _acknowledged(each)})

    def _note(self, what: str, **more: Any) -> None:
        with self._log.open("a") as out:
            out.write(json.dumps({"what": what, **more}) + "\n")


class Labels:
    """What the log of one pusher says of its rows: for each key the numbers that a row may have."""

    def __init__(self) -> None:
        self._begun: dict[int, set[int]] = {}
        self._done: dict[int, int] = {}

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of the log, after all earlier ones."""
        if entry.get("operation") != "label" or "keys" not in entry:
            return
        for key in entry["keys"]:
            self._begun.setdefault(key, set()).add(entry["number"])
            if entry["what"] == "done":
                self._done[key] = entry["number"]

    def broken(self, numbers: Mapping[int, int]) -> Iterator[str]:
        """Yield what is wrong with the rows of this pusher, given their numbers by key."""
        for key, number in self._done.items():
            if numbers.get(key, 0) < number:
                yield f"the label of datapoint {key} is {numbers.get(key)}, but {number} was acknowledged"
        for key, number in numbers.items():
            if number not in self._begun.get(key, ()):
                yield f"the label of datapoint {key} is {number}, which was not appended"


def numbers_of(rows: Any) -> dict[int, int]:
    """Return the numbers of rows by their keys."""
    return dict(zip(rows.column("key").to_pylist(), rows.column("number").to_pylist(), strict=True))


def _acknowledged(entry: Mapping[str, Any]) -> dict[str, int]:
    """Return the files that a push has acknowledged, with their versions."""
    return entry["files"] if entry["what"] == "done" and entry.get("operation") == "push" else {}


def check(client: Client, name: str, logs: list[Path], fail: Callable[[str], Exception]) -> int:
    """Compare what is stored with the logs, and return how many datapoints there are.

    Raises:
        Exception: What `fail` makes of the guarantee that was broken.
    """
    made: set[tuple[str, int]] = set()
    must: dict[tuple[str, int], bool] = {}  # the versions that were acknowledged
    newest: dict[str, int] = {}  # of each path the last one of them
    for entry in (each for log in logs for each in entries(log)):
        if entry["what"] == "wrong":
            raise fail(f"a pusher has found: {entry['error']}")
        if entry["what"] == "made":
            made.add((entry["path"], entry["number"]))
        newest |= _acknowledged(entry)
        must |= dict.fromkeys(_acknowledged(entry).items(), True)

    # Compare the datapoints.
    handle = client.datas3t(name)
    keys: dict[tuple[str, int], int] = {}
    files: dict[int, File] = {}
    for datapoint in handle.scan():
        file = described(datapoint.content)
        if file not in made or datapoint.content != content(*file):
            raise fail(f"datapoint {datapoint.key} of {name} has a content that was not pushed")
        if file in keys:
            raise fail(f"version {file[1]} of {file[0]} is there twice, as {keys[file]} and {datapoint.key}")
        keys[file] = datapoint.key
        files[datapoint.key] = File.of(file[0], datapoint.content)
    if missing := sorted(must.keys() - keys.keys()):
        raise fail(f"{len(missing)} pushed files of {name} are missing, the first {missing[0]}")
    versions = {key: version for (_, version), key in keys.items()}
    for path, version in newest.items():
        if versions[handle.find(path)] < version:
            raise fail(f"{path} means version {versions[handle.find(path)]}, but {version} was acknowledged")

    # Compare the tables.
    for broken in broken_files(handle, files):
        raise fail(broken)
    for log in logs:
        for broken in _broken_labels(handle, log):
            raise fail(broken)
    return len(files)


class File(NamedTuple):
    """What the table `files` has of a datapoint."""

    path: str
    size: int
    crc: int

    @classmethod
    def of(cls, path: str, body: bytes) -> "File":
        """Return what the row of a content must have."""
        return cls(path, len(body), crc(body))


def broken_files(handle: Datas3t, files: Mapping[int, File]) -> Iterator[str]:
    """Yield what is wrong with the table `files`, given all datapoints by their keys."""
    if not files:
        return
    columns = handle.table("files").read(["key", "path", "size", "crc32c"]).to_pydict()
    rows = dict(zip(columns["key"], map(File, columns["path"], columns["size"], columns["crc32c"]), strict=True))
    if rows != files:
        wrong = sorted(key for key in rows.keys() | files.keys() if rows.get(key) != files.get(key))
        key = wrong[0]
        yield (
            f"{len(wrong)} rows of the table 'files' of {handle.name} do not agree with the archives, the first that of"
            f" datapoint {key}: {rows.get(key)} instead of {files.get(key)}"
        )


def _broken_labels(handle: Datas3t, log: Path) -> Iterator[str]:
    labels, owner = Labels(), ""
    for entry in entries(log):
        labels.take(entry)
        owner = owner or entry.get("path", "").split("/")[0]
    try:
        numbers = numbers_of(handle.table(LABELS).read(["key", "number"], where=pc.field("owner") == owner))
    except NotFound:
        numbers = {}
    yield from labels.broken(numbers)


if __name__ == "__main__":
    path, name, seed, *urls = sys.argv[1:]
    Pusher(Path(path), name, int(seed), urls).run()
