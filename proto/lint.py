"""Lint the protos and compare them with the released contract.

Each method must say which role it needs, and which datas3t a call of it is about: access.proto.

Both work on descriptor sets, so they need neither a network nor the git history. With --release, record the current
protos as the released contract instead of comparing them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import HERE, INCLUDES, PACKAGE
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from datas3t.v1 import access_pb2

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


def without_access(described: FileDescriptorSet) -> list[str]:
    """Return the methods that do not say which role they need, or which datas3t their calls are about."""
    missing = []
    for file in described.file:
        for service in file.service:
            for method in service.method:
                access = method.options.Extensions[access_pb2.access]
                if not access.role or access.WhichOneof("scope") is None:
                    missing.append(f"{service.name}.{method.name}")
    return missing


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.binpb"
        describe(current)
        buf("lint", str(current))
        if missing := without_access(FileDescriptorSet.FromString(current.read_bytes())):
            sys.exit(f"these methods need a role and a scope in the option `access`: {', '.join(missing)}")
        if "--release" in sys.argv:
            current.replace(RELEASED)
        else:
            buf("breaking", str(current), "--against", str(RELEASED))
