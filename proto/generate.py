"""Generate gen/datas3t/v1 from proto/datas3t/v1: messages, gRPC code, type stubs, and one module with all messages."""

import re
import sys
from pathlib import Path
from shutil import rmtree

import google.api
import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
PACKAGE = Path("datas3t/v1")
BIN = Path(sys.executable).parent
INCLUDES = [
    HERE,
    Path(next(iter(google.api.__path__))).parent.parent,
    Path(next(iter(grpc_tools.__path__))) / "_proto",
]


def generate(out: Path) -> None:
    """Replace the generated package under `out`."""
    rmtree(out / PACKAGE, ignore_errors=True)
    (out / PACKAGE).mkdir(parents=True)
    files = sorted((HERE / PACKAGE).glob("*.proto"))
    plugins = [f"--plugin=protoc-gen-{kind}={BIN / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    kinds = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    includes = [f"-I{folder}" for folder in INCLUDES]
    if protoc.main(["protoc", *includes, *plugins, *kinds, *map(str, files)]) != 0:
        sys.exit("protoc failed")
    for file in files:
        if not re.search(r"^service ", file.read_text(), re.MULTILINE):
            (out / PACKAGE / f"{file.stem}_pb2_grpc.py").unlink()
            (out / PACKAGE / f"{file.stem}_pb2_grpc.pyi").unlink(missing_ok=True)
    lines = [f"from datas3t.v1.{file.stem}_pb2 import *" for file in files]
    (out / PACKAGE / "__init__.py").write_text(
        '"""All messages of datas3t.v1. Stubs and servicers are in the *_pb2_grpc modules."""\n\n'
        + "\n".join(lines)
        + "\n"
    )
    (out / PACKAGE / "py.typed").touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "gen")
