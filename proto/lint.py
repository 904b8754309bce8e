"""Lints the protos and compares them with the released contract, on descriptor sets: no network, no git history."""

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import HERE, INCLUDES, PACKAGE
from grpc_tools import protoc

RELEASED = HERE / "released.binpb"
BUF = Path(sys.executable).with_name("buf")


def describe(out: Path) -> None:
    """Writes the descriptor set of all protos, with their comments and all that they import."""
    files = map(str, sorted((HERE / PACKAGE).glob("*.proto")))
    includes = [f"-I{folder}" for folder in INCLUDES]
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
    if protoc.main(["protoc", *includes, *flags, *files]) != 0:
        sys.exit("protoc failed")


def buf(*arguments: str) -> None:
    """Runs buf from the folder of buf.yaml, on our package only."""
    done = subprocess.run([BUF, *arguments, "--path", "datas3t"], cwd=HERE.parent, check=False)
    if done.returncode:
        sys.exit(f"buf {arguments[0]} found the above")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.binpb"
        describe(current)
        buf("lint", str(current))
        if "--release" in sys.argv:
            current.replace(RELEASED)
        else:
            buf("breaking", str(current), "--against", str(RELEASED))
