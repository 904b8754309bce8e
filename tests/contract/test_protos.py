"""The contract is consistent: generated code and pages are current, and every rpc has the options it needs."""

import filecmp
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from datas3t import v1
from datas3t.v1 import (
    access_pb2,
    aggregate_pb2,
    bucket_pb2,
    datarange_pb2,
    datas3t_pb2,
    import_pb2,
    table_pb2,
    token_pb2,
)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "proto"))
lint: Any = importlib.import_module("lint")  # a script in proto/, which is not a package

_FILES = (bucket_pb2, datas3t_pb2, datarange_pb2, import_pb2, aggregate_pb2, table_pb2, token_pb2)


def methods() -> Iterator[MethodDescriptor]:
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / script, *arguments], check=False, capture_output=True, text=True)


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    done = run("proto/generate.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    generated, committed = tmp_path / "datas3t/v1", ROOT / "gen/datas3t/v1"
    names = sorted(path.name for path in generated.iterdir())
    assert names == sorted(path.name for path in committed.iterdir() if path.name != "__pycache__")
    assert filecmp.cmpfiles(generated, committed, names, shallow=False)[1:] == ([], [])


def test_the_generated_pages_are_current() -> None:
    done = run("docs/generate.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_protos_pass_their_linter_and_are_compatible_with_the_released_ones() -> None:
    done = run("proto/lint.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_seven_services_have_exactly_the_documented_methods() -> None:
    assert {method.full_name.removeprefix("datas3t.v1.") for method in methods()} == {
        *(f"BucketService.{name}" for name in ("AddBucket", "ListBuckets", "UpdateBucket", "DeleteBucket")),
        *(
            f"Datas3tService.{name}"
            for name in ("AddDatas3t", "ListDatas3ts", "ClearDatas3t", "DeleteDatas3t", "GetDatapointsBitmap")
        ),
        "Datas3tService.ReserveKeys",
        *(f"DatarangeService.{name}" for name in ("StartUpload", "SignUploadParts", "CompleteUpload", "CancelUpload")),
        *(f"DatarangeService.{name}" for name in ("ListDataranges", "DeleteDatarange")),
        *(f"DatarangeService.{name}" for name in ("StartChecksums", "CompleteChecksums", "CancelChecksums")),
        *(f"DatarangeService.{name}" for name in ("PresignDownload", "PresignDataranges")),
        "ImportService.Import",
        *(f"AggregateService.{name}Aggregate" for name in ("Start", "Complete", "Cancel")),
        *(f"AggregateService.{name}" for name in ("SignAggregateParts", "PlanAggregates")),
        *(f"TableService.{name}TableFile" for name in ("Start", "Complete", "Cancel")),
        *(f"TableService.{name}" for name in ("ListTables", "PresignTable", "DropTable")),
        *(f"TokenService.{name}" for name in ("CreateToken", "ListTokens", "RevokeToken", "WhoAmI")),
    }


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_only_methods_that_start_something_new_are_not_idempotent(method: MethodDescriptor) -> None:
    unknown = method.GetOptions().idempotency_level == 0
    assert unknown == method.name.startswith(("Start", "CreateToken"))


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_the_bindings_of_a_method_differ_only_in_their_path(method: MethodDescriptor) -> None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for other in rule.additional_bindings:
        assert (other.WhichOneof("pattern"), other.body, other.response_body) == (
            rule.WhichOneof("pattern"),
            rule.body,
            rule.response_body,
        )


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_every_method_says_which_role_it_needs_and_which_datas3t_it_is_about(method: MethodDescriptor) -> None:
    access = method.GetOptions().Extensions[v1.access]
    assert access.role != v1.ROLE_UNSPECIFIED
    assert access.WhichOneof("scope") is not None
    fields = method.input_type.fields_by_name
    named = [name for name in fields if name == "datas3t_name" or name.endswith("_id")]
    if access.WhichOneof("scope") in ("datas3t_field", "id_field"):
        assert (access.datas3t_field or access.id_field) in fields
    else:
        assert named == []  # a request that names one datas3t is about it


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_a_role_to_read_changes_nothing(method: MethodDescriptor) -> None:
    options = method.GetOptions()
    no_side_effects = options.idempotency_level == options.NO_SIDE_EFFECTS
    role = options.Extensions[v1.access].role
    assert role != v1.ROLE_READ or no_side_effects


def test_the_linter_names_a_method_without_a_role() -> None:
    described = FileDescriptorSet(file=[FileDescriptorProto()])
    bucket_pb2.DESCRIPTOR.CopyToProto(described.file[0])
    assert lint.without_access(described) == []
    described.file[0].service[0].method[1].options.ClearExtension(access_pb2.access)
    described.file[0].service[0].method[2].options.Extensions[access_pb2.access].ClearField("none")
    assert lint.without_access(described) == ["BucketService.ListBuckets", "BucketService.UpdateBucket"]


def test_every_reason_has_a_code_and_is_on_the_page_of_errors() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    for value in v1.ErrorReason.DESCRIPTOR.values:
        assert value.GetOptions().Extensions[v1.rule].code, value.name
        if value.number:
            assert f"| `{value.name.removeprefix('ERROR_REASON_')}` |" in page
