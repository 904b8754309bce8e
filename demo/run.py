"""`make demo`: run the main job on real files, as a user would type it, and compare every byte at the end.

The files are those of a folder, or of the standard library of the running Python. Only `.demo/` is left afterwards.
"""

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from datas3t.client import Client

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
    WORK.mkdir(exist_ok=True)
    shutil.rmtree(WORK / "pulled", ignore_errors=True)
    source = [str(folder)] if folder else library()
    print("# PostgreSQL, an S3 server and datas3t, on this machine")
    with stack() as url:
        print(f"# ready at {url}\n$ export DATAS3T_SERVER_URL={url}")
        different = steps(url, Path(source[0]), source)
    for each in different:
        print(f"# DIFFERENT: {each}")
    return 1 if different else 0


def steps(url: str, folder: Path, source: Sequence[str]) -> list[str]:
    """Run the main job, and return the paths whose content came back different."""
    cli(url, "datas3t", "add", "--name", NAME, "--bucket", "local")
    cli(url, "push", "--datas3t", NAME, *source)
    cli(url, "push", "--datas3t", NAME, *source)  # nothing is new
    cli(url, "datas3t", "list")
    with Client(url) as client:
        images = client.datas3t(NAME)
        first, last = middle(list(images.keys))
        span = ("--first-datapoint", str(first), "--last-datapoint", str(last))
        cli(url, "pull", "--datas3t", NAME, *span, "--output", ".demo/pulled")
        paths = [path for path in images.paths(range(first, last + 1)) if path is not None]
        different = compared(WORK / "pulled", folder, paths)
        print(f"# {len(paths)} files compared with what came back, byte for byte: {outcome(different)}\n")

        alone = sorted({paths[0], paths[len(paths) // 2], paths[-1]})
        wrong = []
        for path in alone:
            print(f">>> images.get(images.find({path!r}))")
            if not same(images.get(images.find(path)), folder / path):
                wrong.append(path)
    print(f"# {len(alone)} files found by their paths and compared: {outcome(wrong)}")
    return different + wrong


def compared(pulled: Path, folder: Path, paths: Sequence[str]) -> list[str]:
    """Return the files that did not come back as they are, and any others in the folder that they came back to."""
    others = {str(path.relative_to(pulled)) for path in pulled.rglob("*") if path.is_file()} - set(paths)
    found = [path for path in paths if (pulled / path).is_file()]
    same_content = {path for path in found if same((pulled / path).read_bytes(), folder / path)}
    return [path for path in paths if path not in same_content] + sorted(others)


def same(content: bytes, path: Path) -> bool:
    """Whether the file at `path` has this content."""
    return content == path.read_bytes()


def outcome(different: Sequence[str]) -> str:
    """Return the result of a comparison in words."""
    return f"{len(different)} DIFFERENT" if different else "all the same"


def middle(keys: Sequence[int]) -> tuple[int, int]:
    """Return the first and last key of the middle third of `keys`, at most 1,000 of them."""
    some = keys[len(keys) // 3 :][: max(1, min(1000, len(keys) // 3))]
    return some[0], some[-1]


def library() -> list[str]:
    """Return what names some thousand files of the standard library: its folder, and a list of them."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    chosen = [str(path) for path in files if not {"site-packages", "__pycache__"} & set(path.parts)][:MAX_FILES]
    (WORK / "files.txt").write_text("\n".join(chosen))
    return [str(root), "--files-from", str(WORK / "files.txt")]


def cli(url: str, *arguments: str) -> None:
    """Print a command and run it. Exit if the command fails."""
    print(f"$ {shlex.join(['datas3t', *arguments])}")
    done = subprocess.run([CLI, "--server-url", url, *arguments], check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"# the command failed with exit code {done.returncode}")
    print()


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
