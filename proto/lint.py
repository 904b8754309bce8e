"""Lint the protos and compare them with the released contract.

Both work on descriptor sets, so they need neither a network nor the git history. With --release, record the current
protos as the released contract instead of comparing them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import HERE, INCLUDES, PACKAGE
from grpc_tools import protoc

RELEASED = HERE / "released.binpb"
BUF = Path(sys.executable).with_name("buf")


def describe(out: Path) -> None:
    """Write the descriptor set of all protos, with their comments and imports."""
    files = map(str, sorted((HERE / PACKAGE).glob("*.proto")))
    includes = [f"-I{folder}" for folder in INCLUDES]
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
    if protoc.main(["protoc", *includes, *flags, *files]) != 0:
        sys.exit("protoc failed")


def buf(*arguments: str) -> None:
    """Run buf on our package, in the folder of buf.yaml."""
    done = subprocess.run([BUF, *arguments, "--path", "datas3t"], cwd=HERE.parent, check=False)
    if done.returncode:
        sys.exit(f"buf {arguments[0]} failed; see the messages above")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.binpb"
        describe(current)
        buf("lint", str(current))
        if "--release" in sys.argv:
            current.replace(RELEASED)
        else:
            buf("breaking", str(current), "--against", str(RELEASED))
