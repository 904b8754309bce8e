"""`make demo`: the main job on real files, start to end, as a person would type it; the last step compares every byte.

Takes a folder, or else packs what the running Python has of its own library. Leaves nothing behind but `.demo/`.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".demo"
CLI = Path(sys.executable).with_name("datas3t")
MOST = 4000  # files; the library has more than a demonstration needs


def main() -> int:
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    WORK.mkdir(exist_ok=True)
    for old in (WORK / "demo.tar", WORK / "demo.tar.names.jsonl", WORK / "some.tar"):
        old.unlink(missing_ok=True)
    print("# PostgreSQL, an S3 server and datas3t, on this machine")
    up = start()
    try:
        url = address(up)
        os.environ["DATAS3T_SERVER_URL"] = url
        print(f"# ready at {url}\n")
        return steps(folder)
    finally:
        up.send_signal(signal.SIGTERM)
        print("\n# stopped" if up.wait(60) == 0 else "\n# it did not stop cleanly")


def steps(folder: Path | None) -> int:
    name = f"demo-{int(time.time())}"
    cli("datas3t", "add", "--name", name, "--bucket", "local")
    cli("datarange", "pack", "--output", ".demo/demo.tar", *([str(folder)] if folder else library()))
    cli("datarange", "upload-tar", "--datas3t", name, "--file", ".demo/demo.tar")
    cli("datas3t", "list")
    cli("datarange", "list", "--datas3t", name)
    paths = {row["key"]: row["path"] for row in map(json.loads, (WORK / "demo.tar.names.jsonl").open())}
    first, last = middle(sorted(paths))
    span = ("--first-datapoint", str(first), "--last-datapoint", str(last))
    cli("datarange", "download-tar", "--datas3t", name, *span, "--output", ".demo/some.tar")
    one = cli("cat-range", name, str(first), str(first), capture=True)
    return compare(paths, first, last, one)


def compare(paths: dict[int, str], first: int, last: int, one: bytes) -> int:
    """The downloaded datapoints against the files that they were made of."""
    wrong = one != Path(paths[first]).read_bytes()
    seen = []
    with tarfile.open(WORK / "some.tar") as archive:
        for member in archive:
            content = archive.extractfile(member)
            seen.append(int(member.name.partition(".")[0]))
            wrong |= content is None or content.read() != Path(paths[seen[-1]]).read_bytes()
    wrong |= seen != list(range(first, last + 1))
    outcome = "DIFFERENT" if wrong else "all the same"
    print(f"\n# {len(seen)} datapoints compared with their files, byte for byte: {outcome}")
    return int(wrong)


def middle(keys: list[int]) -> tuple[int, int]:
    """A sub-range: the middle third, and no more than 1,000."""
    some = keys[len(keys) // 3 :][: max(1, min(1000, len(keys) // 3))]
    return some[0], some[-1]


def library() -> list[str]:
    """Some thousand files of the Python installation."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if "site-packages" not in path.parts and "__pycache__" not in path.parts][:MOST]


def cli(*arguments: str, capture: bool = False) -> bytes:
    """Shows a command, runs it, and ends the demonstration where it fails."""
    shown = shlex.join(["datas3t", *arguments[:8]])
    print(f"$ {shown}{' …' if len(arguments) > 8 else ''}", flush=True)
    done = subprocess.run([CLI, *arguments], check=False, cwd=ROOT, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"# that failed with exit code {done.returncode}")
    return done.stdout or b""


def start() -> subprocess.Popen[str]:
    command = [str(CLI), "up", "--data-dir", str(WORK / "data"), "--addr", "127.0.0.1:0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def address(up: subprocess.Popen[str]) -> str:
    """Where it listens, once it is ready."""
    assert up.stdout is not None
    for line in up.stdout:
        if line.startswith("datas3t is ready at "):
            return line.split()[-1]
    sys.exit("# datas3t up did not start; what it said is above")


if __name__ == "__main__":
    sys.exit(main())
