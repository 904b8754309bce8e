"""The contract is consistent: generated code and pages are current, and every rpc has the options it needs."""

import filecmp
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from datas3t import v1
from datas3t.v1 import aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2, table_pb2

ROOT = Path(__file__).parents[2]
_FILES = (bucket_pb2, datas3t_pb2, datarange_pb2, import_pb2, aggregate_pb2, table_pb2)


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


def test_the_six_services_have_exactly_the_documented_methods() -> None:
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
    }


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_only_methods_that_start_something_new_are_not_idempotent(method: MethodDescriptor) -> None:
    unknown = method.GetOptions().idempotency_level == 0
    assert unknown == method.name.startswith("Start")


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: str(method.full_name))
def test_the_bindings_of_a_method_differ_only_in_their_path(method: MethodDescriptor) -> None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for other in rule.additional_bindings:
        assert (other.WhichOneof("pattern"), other.body, other.response_body) == (
            rule.WhichOneof("pattern"),
            rule.body,
            rule.response_body,
        )


def test_every_reason_has_a_code_and_is_on_the_page_of_errors() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    for value in v1.ErrorReason.DESCRIPTOR.values:
        assert value.GetOptions().Extensions[v1.rule].code, value.name
        if value.number:
            assert f"| `{value.name.removeprefix('ERROR_REASON_')}` |" in page
