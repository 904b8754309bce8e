"""Archives as real programs write them, read by us; and ours, read by them."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from datas3t.archive import index, names, tar, write
from tests.support.tars import contents

Writer = Callable[[Path, Sequence[Path]], None]

_GO = """
package main
import ("archive/tar"; "io"; "os"; "path/filepath"; "time")
func main() {
  out, _ := os.Create(os.Args[1]); w := tar.NewWriter(out)
  for _, path := range os.Args[2:] {
    in, _ := os.Open(path); info, _ := in.Stat()
    h := &tar.Header{Name: filepath.Base(path), Size: info.Size(), Mode: 0600, ModTime: time.Unix(1700000000, 5000),
                     Format: tar.FormatPAX}
    if err := w.WriteHeader(h); err != nil { panic(err) }
    if _, err := io.Copy(w, in); err != nil { panic(err) }
  }
  if err := w.Close(); err != nil { panic(err) }
}
"""
_LIBARCHIVE = """
import sys, libarchive
with libarchive.file_writer(sys.argv[2], sys.argv[1]) as out:
    for path in sys.argv[3:]:
        content = open(path, "rb").read()
        out.add_file_from_memory(path.rpartition("/")[2], len(content), content, mtime=1_700_000_000)
"""


def gnu(dialect: str) -> Writer:
    def run(out: Path, files: Sequence[Path]) -> None:
        command = ["tar", f"--format={dialect}", "-cf", str(out), "-C", str(files[0].parent)]
        subprocess.run([*command, *(path.name for path in files)], check=True)

    return run


def bsdtar(dialect: str) -> Writer:
    def run(out: Path, files: Sequence[Path]) -> None:
        command = ["bsdtar", f"--format={dialect}", "-cf", str(out), "-C", str(files[0].parent)]
        subprocess.run([*command, *(path.name for path in files)], check=True)

    return run


def python(dialect: int) -> Writer:
    def run(out: Path, files: Sequence[Path]) -> None:
        with tarfile.open(out, "w", format=dialect) as archive:
            for path in files:
                archive.add(path, path.name)

    return run


def libarchive(library: Path, dialect: str) -> Writer:
    def run(out: Path, files: Sequence[Path]) -> None:
        script = [sys.executable, "-c", _LIBARCHIVE, dialect, str(out), *map(str, files)]
        subprocess.run(script, check=True, env={**os.environ, "LIBARCHIVE": str(library)})

    return run


def go(out: Path, files: Sequence[Path]) -> None:
    program = out.with_suffix(".go")
    program.write_text(_GO)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    subprocess.run(["go", "run", str(program), str(out), *map(str, files)], check=True, env=environment)


def _bundled_libarchive() -> Path | None:
    try:
        files = importlib.metadata.files("extractcode-libarchive") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "libarchive.so"), None)


def _is_gnu_tar() -> bool:
    if not shutil.which("tar"):
        return False
    return b"GNU" in subprocess.run(["tar", "--version"], check=False, capture_output=True).stdout


def writers() -> dict[str, Writer]:
    """Every tool that is at hand: Python's always, the others where the machine or a package has them."""
    found: dict[str, Writer] = {
        "python-ustar": python(tarfile.USTAR_FORMAT),
        "python-gnu": python(tarfile.GNU_FORMAT),
        "python-pax": python(tarfile.PAX_FORMAT),
    }
    if _is_gnu_tar():
        found |= {f"gnu-{dialect}": gnu(dialect) for dialect in ("ustar", "v7", "gnu", "oldgnu", "posix")}
    if shutil.which("bsdtar"):
        found |= {f"bsdtar-{dialect}": bsdtar(dialect) for dialect in ("ustar", "pax", "gnutar", "v7")}
    if library := _bundled_libarchive():
        found |= {f"libarchive-{each}": libarchive(library, each) for each in ("ustar", "pax", "gnutar", "v7tar")}
    if shutil.which("go"):
        found["go-pax"] = go
    return found


WRITERS = writers()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    bodies = [*contents(1, 30, 3000), b"", bytes(512), b"x" * 511]
    paths = []
    for key, body in enumerate(bodies, 7):
        paths.append(folder / names.entry_name(key, "json.zst"))
        paths[-1].write_bytes(body)
    return paths


@pytest.mark.parametrize("tool", WRITERS)
def test_what_a_tool_writes_is_read_as_it_was_written(tool: str, files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    WRITERS[tool](path, files)
    found = tar.scan_file(path, first_key=7)
    raw = path.read_bytes()
    entries = index.decode(found.index)
    assert [raw[entry.content.start : entry.content.stop] for entry in entries] == [each.read_bytes() for each in files]
    for key, entry in enumerate(entries, 7):
        assert tar.check_entry(raw[entry.position : entry.content.start], entry, key) == files[key - 7].name
    assert index.check(found.index, len(raw)) == found.entries_end
    assert tar.scan(lambda start, stop: raw[start:stop], len(raw)) == found


LONG = {tool: write for tool, write in WRITERS.items() if not any(old in tool for old in ("ustar", "v7"))}


@pytest.mark.parametrize("tool", LONG)
def test_names_that_do_not_fit_a_header_are_read_whole(tool: str, tmp_path: Path) -> None:
    source = tmp_path / names.entry_name(1, "e" * 120)
    source.write_bytes(b"content")
    LONG[tool](tmp_path / "a.tar", [source])
    raw = (tmp_path / "a.tar").read_bytes()
    found = tar.scan_file(tmp_path / "a.tar")
    (entry,) = index.decode(found.index)
    assert entry.header_blocks > 1
    assert tar.check_entry(raw[: entry.content.start], entry, 1) == source.name


@pytest.mark.parametrize("extension", ["bin", "e" * 90, "é"])
def test_what_we_write_the_others_read(extension: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    bodies = contents(3, 20, 2000)
    pieces = [
        write.header(names.entry_name(key, extension), len(body)) + body + write.padding(len(body))
        for key, body in enumerate(bodies, 1)
    ]
    path.write_bytes(b"".join(pieces) + write.END)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [names.entry_name(key, extension) for key in range(1, 21)]
        assert [archive.extractfile(member).read() for member in members] == bodies  # type: ignore[union-attr]
    if any(tool.startswith("gnu") for tool in WRITERS):
        listed = subprocess.run(["tar", "tf", path], check=True, capture_output=True).stdout.splitlines()
        assert len(listed) == 20
    assert tar.scan_file(path).count == 20
