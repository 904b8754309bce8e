"""`datas3t cat-range --decompress` and `--newline`."""

import bz2
import gzip
import lzma
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from datas3t.archive import write
from datas3t.client import Client
from tests.cli.conftest import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[[Sequence[tuple[str, bytes]]], None]

ZSTD = zstandard.ZstdCompressor()


@pytest.fixture
def put(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Put":
    """Return a function that uploads datapoints 1 and so on, given their extensions and contents, as datas3t `d`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DATAS3T_SERVER_URL", url)

    def upload(datapoints: Sequence[tuple[str, bytes]]) -> None:
        data = b""
        for key, (extension, content) in enumerate(datapoints, 1):
            data += write.header(f"{key:020d}.{extension}", len(content)) + content + write.padding(len(content))
        (tmp_path / "d.tar").write_bytes(data + write.END)
        with Client(url) as client:
            client.add_datas3t("d", bucket="local")
            client.upload_tar("d", tmp_path / "d.tar")

    return upload


def cat(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "datas3t", "cat-range", "d", *arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=60)


def test_contents_are_decompressed_as_their_extensions_say(put: "Put") -> None:
    large = b"0123456789" * 1_000_000
    put(
        [
            ("json.gz", gzip.compress(b"one") + gzip.compress(b"one more")),  # of several members
            ("txt", b"two"),
            ("json.bz2", bz2.compress(b"three")),
            ("xz", lzma.compress(b"four")),
            ("json.ZST", ZSTD.compress(b"five") + ZSTD.compress(b"and five") + ZSTD.compress(b"")),
            ("gz", gzip.compress(b"")),
            ("zst", ZSTD.compress(large)),
            ("zst", b""),
        ]
    )
    done = cat("1", "8", "--decompress")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"oneone moretwothreefourfiveand five" + large
    lines = cat("1", "6", "--decompress", "--newline")
    assert lines.stdout == b"oneone more\ntwo\nthree\nfour\nfiveand five\n\n"
    assert cat("2", "2", "--newline").stdout == b"two\n"
    assert cat("1", "1").stdout[:2] == b"\x1f\x8b"


def test_a_content_that_cannot_be_decompressed_is_named(put: "Put") -> None:
    damaged = [
        ("gz", b"no gzip"),
        ("gz", gzip.compress(b"x" * 100)[:-4]),
        ("gz", gzip.compress(b"x" * 100)[:-8] + bytes(8)),
        ("bz2", bz2.compress(b"x")[:-1]),
        ("xz", b"no xz"),
        ("xz", lzma.compress(b"x")[:-1]),
        ("zst", b"no zstandard"),
        ("zst", ZSTD.compress(b"x" * 10_000)[:-1]),
        ("zst", ZSTD.compress(b"x") + b"trailing"),
        ("br", b"?"),
    ]
    put(damaged)
    for key, (extension, _) in enumerate(damaged, 1):
        done = cat(str(key), str(key), "--decompress")
        assert done.returncode == 1, key
        assert done.stderr.startswith(f"Error: datapoint {key:020d}.{extension} cannot be decompressed: ".encode())
        assert done.stderr.count(b"\n") == 1


def test_a_missing_library_is_named_with_the_extra_that_has_it(put: "Put", run: Run, url: str, tmp_path: Path) -> None:
    put([("zst", ZSTD.compress(b"x"))])
    (tmp_path / "zstandard.py").write_text("raise ModuleNotFoundError(name='zstandard')")
    done = run("cat-range", "d", "1", "1", "--decompress", PYTHONPATH=str(tmp_path), DATAS3T_SERVER_URL=url)
    assert done.returncode == 1
    assert done.stderr == "Error: decompressing .zst needs an optional package; run: pip install 'datas3t[zstd]'\n"
