"""Archives that real programs write are read here, and programs read the archives that are written here."""

import bz2
import gzip
import importlib.metadata
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest

from datas3t.archive import ArchiveError, index, names, tar, write
from tests.support.tars import archive, contents

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
    """Return a writer that uses GNU tar."""

    def run(out: Path, files: Sequence[Path]) -> None:
        command = ["tar", f"--format={dialect}", "-cf", str(out), "-C", str(files[0].parent)]
        subprocess.run([*command, *(path.name for path in files)], check=True)

    return run


def bsdtar(dialect: str) -> Writer:
    """Return a writer that uses bsdtar."""

    def run(out: Path, files: Sequence[Path]) -> None:
        command = ["bsdtar", f"--format={dialect}", "-cf", str(out), "-C", str(files[0].parent)]
        subprocess.run([*command, *(path.name for path in files)], check=True)

    return run


def python(dialect: int) -> Writer:
    """Return a writer that uses tarfile."""

    def run(out: Path, files: Sequence[Path]) -> None:
        with tarfile.open(out, "w", format=dialect) as archive:
            for path in files:
                archive.add(path, path.name)

    return run


def libarchive(library: Path, dialect: str) -> Writer:
    """Return a writer that uses libarchive, in its own process."""

    def run(out: Path, files: Sequence[Path]) -> None:
        script = [sys.executable, "-c", _LIBARCHIVE, dialect, str(out), *map(str, files)]
        subprocess.run(script, check=True, env={**os.environ, "LIBARCHIVE": str(library)})

    return run


def go(out: Path, files: Sequence[Path]) -> None:
    """Write an archive with Go's archive/tar."""
    program = out.with_suffix(".go")
    program.write_text(_GO)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    subprocess.run(["go", "run", str(program), str(out), *map(str, files)], check=True, env=environment)


def git(out: Path, files: Sequence[Path]) -> None:
    """Write an archive with `git archive`, which begins with a global PAX header: the commit, as a comment."""
    tree = out.with_suffix(".git")
    tree.mkdir()
    for path in files:
        shutil.copy(path, tree)
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a"], ["archive", "-o", str(out), "HEAD"]):
        subprocess.run(["git", "-C", str(tree), "-c", "core.autocrlf=false", *command], check=True)


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
    """Return every available tool: Python's tarfile, and others that the machine or a package has."""
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
    if shutil.which("git"):
        found["git"] = git
    if shutil.which("go"):
        found["go-pax"] = go
    return found


WRITERS = writers()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make files of many sizes, named as datapoints from key 7."""
    folder = tmp_path_factory.mktemp("files")
    bodies = [*contents(1, 30, 3000), b"", bytes(512), b"x" * 511]
    paths = []
    for key, body in enumerate(bodies, 7):
        paths.append(folder / names.entry_name(key, "json.zst"))
        paths[-1].write_bytes(body)
    return paths


@pytest.mark.parametrize("tool", WRITERS)
def test_an_archive_of_any_tool_is_read_correctly(tool: str, files: list[Path], tmp_path: Path) -> None:
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


LONG = {tool: write for tool, write in WRITERS.items() if not any(old in tool for old in ("ustar", "v7", "git"))}


@pytest.mark.parametrize("tool", LONG)
def test_names_that_do_not_fit_a_header_are_read_completely(tool: str, tmp_path: Path) -> None:
    source = tmp_path / names.entry_name(1, "e" * 120)
    source.write_bytes(b"content")
    LONG[tool](tmp_path / "a.tar", [source])
    raw = (tmp_path / "a.tar").read_bytes()
    found = tar.scan_file(tmp_path / "a.tar")
    (entry,) = index.decode(found.index)
    assert entry.header_blocks > 1
    assert tar.check_entry(raw[: entry.content.start], entry, 1) == source.name


@pytest.mark.parametrize("extension", ["bin", "e" * 90, "é"])
def test_archives_written_here_are_read_by_other_tools(extension: str, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("dialect", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_sizes_from_8_gib_written_by_python_are_read(dialect: Literal[1, 2], tmp_path: Path) -> None:
    member = tarfile.TarInfo(names.entry_name(1, "bin"))
    member.size = (9 << 30) + 7
    head = member.tobuf(dialect, "utf-8", "surrogateescape")
    path = tmp_path / "a.tar"
    with path.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + index.padded(member.size) + 1024)
    assert index.decode(tar.scan_file(path).index) == [index.Entry(0, len(head) // 512, member.size)]


def test_sizes_from_8_gib_written_here_are_read_by_python() -> None:
    head = write.header(names.entry_name(1, "bin"), (9 << 30) + 7)
    with tarfile.open(fileobj=io.BytesIO(head)) as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size) == (names.entry_name(1, "bin"), (9 << 30) + 7)


def refusal(path: Path) -> str:
    """Return the message with which the archive is refused."""
    with pytest.raises(ArchiveError) as caught:
        tar.scan_file(path)
    return str(caught.value)


GNU_DIALECTS = [tool.removeprefix("gnu-") for tool in WRITERS if tool.startswith("gnu-")]


@pytest.mark.parametrize("dialect", [each for each in GNU_DIALECTS if each in ("gnu", "oldgnu", "posix")])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar_are_refused(dialect: str, version: str, tmp_path: Path) -> None:
    holes = tmp_path / names.entry_name(1, "bin")
    with holes.open("wb") as out:
        out.write(b"a" * 4096)
        out.seek(8 << 20)
        out.write(b"b" * 4096)
    form = ["--sparse", f"--sparse-version={version}"] if dialect == "posix" else ["--sparse"]
    command = ["tar", f"--format={dialect}", *form, "-cf", str(tmp_path / "a.tar"), "-C", str(tmp_path), holes.name]
    subprocess.run(command, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 1 << 20, "the file must be stored as sparse"
    assert "is a sparse file" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize("dialect", GNU_DIALECTS)
def test_an_archive_of_a_whole_folder_is_refused(dialect: str, files: list[Path], tmp_path: Path) -> None:
    folder = str(files[0].parent)
    subprocess.run(["tar", f"--format={dialect}", "-cf", str(tmp_path / "a.tar"), "-C", folder, "."], check=True)
    assert "'./' is a directory" in refusal(tmp_path / "a.tar")
    names_ = [f"./{path.name}" for path in files]
    subprocess.run(["tar", f"--format={dialect}", "-cf", str(tmp_path / "b.tar"), "-C", folder, *names_], check=True)
    assert f"entry './{files[0].name}' is not named <20 digits>.<extension>" in refusal(tmp_path / "b.tar")


@pytest.mark.parametrize("kind", ["symlink", "link", "fifo"])
def test_entries_that_are_not_regular_files_are_refused(kind: str, tmp_path: Path) -> None:
    first, second = (tmp_path / names.entry_name(key, "bin") for key in (1, 2))
    first.write_bytes(b"x")
    if kind == "symlink":
        second.symlink_to(first.name)
    elif kind == "link":
        second.hardlink_to(first)
    else:
        os.mkfifo(second)
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        out.add(first, first.name)
        out.add(second, second.name)
    description = {"symlink": "a symbolic link", "link": "a hard link", "fifo": "a FIFO"}[kind]
    assert f"entry '{second.name}' is {description}" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize(("setting", "message"), [("comment", None), ("path", "sets 'path'"), ("size", "sets 'size'")])
def test_a_global_header_may_not_set_path_or_size(
    setting: str, message: str | None, files: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", pax_headers={setting: "3"}) as out:
        for each in files:
            out.add(each, each.name)
    if message:
        assert message in refusal(path)
    else:
        assert index.entry_at(tar.scan_file(path, first_key=7).index, 0).header_blocks >= 3


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("program", COMPRESSORS)
@pytest.mark.parametrize("count", [1, 300])
def test_compressed_archives_of_any_size_are_recognised(program: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(COMPRESSORS[program](archive(1, contents(1, count, 50))))
    assert (path.stat().st_size < 512) == (count == 1)
    assert refusal(path) == f"the archive is compressed with {program}; decompress it first"
