"""`make demo`: run the main job on real files, as a user would type it, and compare every byte at the end.

The files are those of a folder, or of the standard library of the running Python. Only `.demo/` is left afterwards.
"""

import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".demo"
CLI = Path(sys.executable).with_name("datas3t")
MAX_FILES = 4000  # the standard library has more than a demonstration needs
NAME = f"demo-{int(time.time())}"


def main() -> int:
    """Run the demonstration, and return the exit code."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    folder = Path(sys.argv[1]).expanduser().resolve() if len(sys.argv) > 1 else None
    if folder and not folder.is_dir():
        sys.exit(f"# {folder} is not a folder")
    sources = [str(folder)] if folder else library()
    WORK.mkdir(exist_ok=True)
    for old in ("demo.tar", "demo.tar.names.jsonl", "some.tar"):
        (WORK / old).unlink(missing_ok=True)
    print("# PostgreSQL, an S3 server and datas3t, on this machine")
    with stack() as url:
        print(f"# ready at {url}\n$ export DATAS3T_SERVER_URL={url}")
        different = steps(url, sources)
    for each in different:
        print(f"# DIFFERENT: {each}")
    return 1 if different else 0


def steps(url: str, sources: Sequence[str]) -> list[str]:
    """Run the main job, and return the paths whose content came back different."""
    cli(url, "datas3t", "add", "--name", NAME, "--bucket", "local")
    cli(url, "datarange", "pack", "--output", ".demo/demo.tar", more=sources)
    cli(url, "datarange", "upload-tar", "--datas3t", NAME, "--file", ".demo/demo.tar")
    cli(url, "datas3t", "list")
    cli(url, "datarange", "list", "--datas3t", NAME)

    paths = {row["key"]: row["path"] for row in map(json.loads, (WORK / "demo.tar.names.jsonl").open())}
    first, last = middle(sorted(paths))
    span = ("--first-datapoint", str(first), "--last-datapoint", str(last))
    cli(url, "datarange", "download-tar", "--datas3t", NAME, *span, "--output", ".demo/some.tar")
    different = compared(WORK / "some.tar", {key: paths[key] for key in range(first, last + 1)})
    print(f"# {last - first + 1} datapoints compared with their files, byte for byte: {outcome(different)}\n")

    alone = sorted({min(paths), first, max(paths)})
    wrong = [paths[key] for key in alone if not same(cli(url, "cat-range", NAME, str(key), str(key)), paths[key])]
    print(f"# {len(alone)} datapoints read alone and compared: {outcome(wrong)}")
    return different + wrong


def compared(archive: Path, paths: dict[int, str]) -> list[str]:
    """Return the files that the archive does not hold, byte for byte, under their key, and any other members of it."""
    missing = dict(paths)
    different = []
    with tarfile.open(archive) as members:
        for member in members:
            path = missing.pop(int(member.name.partition(".")[0]), None)
            content = members.extractfile(member)
            if path is None or content is None or not same(content.read(), path):
                different.append(path or member.name)
    return different + list(missing.values())


def same(content: bytes, path: str) -> bool:
    """Whether the file at `path` has this content."""
    return content == Path(path).read_bytes()


def outcome(different: Sequence[str]) -> str:
    """Return the result of a comparison in words."""
    return f"{len(different)} DIFFERENT" if different else "all the same"


def middle(keys: Sequence[int]) -> tuple[int, int]:
    """Return the first and last key of the middle third of `keys`, at most 1,000 of them."""
    some = keys[len(keys) // 3 :][: max(1, min(1000, len(keys) // 3))]
    return some[0], some[-1]


def library() -> list[str]:
    """Return the paths of some thousand files of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if not {"site-packages", "__pycache__"} & set(path.parts)][:MAX_FILES]


def cli(url: str, *arguments: str, more: Sequence[str] = ()) -> bytes:
    """Print a command and run it; return the output of `cat-range`, print that of others. Exit if the command fails."""
    shown = shlex.join(["datas3t", *arguments, *more[:1]])
    print(f"$ {shown}{f' … and {len(more) - 1:,} more files' if len(more) > 1 else ''}")
    done = subprocess.run(
        [CLI, "--server-url", url, *arguments, *more],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE if arguments[0] == "cat-range" else None,
    )
    if done.returncode:
        sys.exit(f"# the command failed with exit code {done.returncode}")
    print()
    return done.stdout or b""


@contextlib.contextmanager
def stack() -> Iterator[str]:
    """Run `datas3t up` while the block runs, yield its address, and delete its data at the end."""
    data = WORK / "data"
    command = [str(CLI), "up", "--data-dir", str(data), "--addr", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as up:
        try:
            yield address(up)
        finally:
            up.send_signal(signal.SIGTERM)
            ended = up.wait()
    if ended != 0:
        sys.exit(f"# datas3t up exited with code {ended}")
    shutil.rmtree(data)
    print("# stopped")


def address(up: "subprocess.Popen[str]") -> str:
    """Wait until `datas3t up` is ready, and return its address."""
    assert up.stdout is not None
    for line in up.stdout:
        if line.startswith("datas3t is ready at "):
            return line.split()[-1]
    sys.exit("# datas3t up did not start; see its output above")


if __name__ == "__main__":
    sys.exit(main())
