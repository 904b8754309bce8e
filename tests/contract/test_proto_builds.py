"""The protos compile from a clone, for every language, without a network."""

import subprocess
import sys
from pathlib import Path

import google.api
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
COPIES = ROOT / "third_party/googleapis"
PROTOS = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
INSTALLED = Path(next(iter(google.api.__path__))).parents[1]  # googleapis-common-protos, which the wheel depends on


@pytest.mark.parametrize("annotations", [COPIES, INSTALLED], ids=["from a clone", "from the wheel's dependencies"])
def test_protoc_finds_every_import(annotations: Path, tmp_path: Path) -> None:
    includes = [f"-I{folder}" for folder in (ROOT / "proto", annotations, Path(protoc.__file__).parent / "_proto")]
    out = tmp_path / "all.binpb"
    assert protoc.main(["protoc", *includes, "--include_imports", f"--descriptor_set_out={out}", *PROTOS]) == 0
    assert_has_options(out)


def test_buf_builds_and_lints(tmp_path: Path) -> None:
    buf, out = Path(sys.executable).with_name("buf"), tmp_path / "all.binpb"
    for arguments in (("build", "-o", str(out)), ("lint",)):
        done = subprocess.run([buf, *arguments], check=False, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert_has_options(out)


def assert_has_options(descriptors: Path) -> None:
    """Assert that our protos name the packages of Go, Java and C#."""
    files = {file.name: file for file in FileDescriptorSet.FromString(descriptors.read_bytes()).file}
    for name in PROTOS:
        options = files[name].options
        assert options.go_package == "github.com/datas3t/datas3t/gen/go/datas3t/v1;datas3tv1"
        assert (options.java_package, options.java_multiple_files) == ("io.github.datas3t.v1", True)
        assert options.csharp_namespace == "Datas3t.V1"


def test_the_copies_of_googleapis_are_those_of_the_package() -> None:
    copies = sorted(COPIES.rglob("*.proto"))
    assert len(copies) == 4
    for copy in copies:
        assert copy.read_bytes() == (INSTALLED / copy.relative_to(COPIES)).read_bytes()
