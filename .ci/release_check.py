"""`make release-check`: build the distributions and install the wheel as users will, before a release.

The wheel is installed into a bare environment once per extra, with the newest versions of its dependencies and with
the lowest ones that pyproject.toml allows. The extra `up` runs the whole demo. Everything is made below
build/release-check and removed at the next run.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build/release-check"
DIST = WORK / "dist"
TOOLS = WORK / "tools"
RESOLUTIONS = ("highest", "lowest-direct")  # uv's names
DECOMPRESS = """
import zstandard
from datas3t.cli.decompression import decompressed
content = zstandard.ZstdCompressor().compress(b"one") + zstandard.ZstdCompressor().compress(b"two")
assert b"".join(decompressed("1.zst", content)) == b"onetwo"
"""
DECODE = """
import io
from PIL import Image
from datas3t.client import Datapoint
from datas3t.training import decode
import soundfile
out = io.BytesIO()
Image.new("RGB", (3, 2)).save(out, "png")
assert decode(Datapoint(1, "1.png", out.getvalue())).shape == (2, 3, 3)
out = io.BytesIO()
soundfile.write(out, [0.0, 0.5], 8000, format="wav")
assert decode(Datapoint(1, "1.wav", out.getvalue())).rate == 8000
"""
CHECKS = {
    "": [
        ["datas3t", "--version"],
        ["datas3t", "datarange", "upload-tar", "--help"],
        ["python", "-W", "error", "-c", "from datas3t.client import Client; Client('http://localhost:1').close()"],
    ],
    "tables": [["python", "-W", "error", "-c", "import datas3t.client._tables.arrow"]],
    "training": [["python", "-c", DECODE]],
    "zstd": [["python", "-c", DECOMPRESS]],
    "server": [
        ["datas3t", "server", "--help"],
        ["datas3t", "keygen"],
        ["python", "-c", "import datas3t.server.app.worker"],
    ],
    "up": [
        ["datas3t", "up", "--help"],
        ["python", str(ROOT / "demo/run.py")],
    ],
}


def main() -> int:
    """Run all checks; return the exit code."""
    shutil.rmtree(WORK, ignore_errors=True)
    DIST.mkdir(parents=True)

    # Tools of the release alone: they are not needed for development.
    run([sys.executable, "-m", "venv", TOOLS])
    run([TOOLS / "bin/pip", "install", "--quiet", "build>=1.2", "twine>=6", "uv>=0.5"])

    # The wheel is built from the source distribution, so both are complete.
    run([TOOLS / "bin/python", "-m", "build", "--outdir", DIST, ROOT])
    run([TOOLS / "bin/twine", "check", "--strict", *sorted(DIST.iterdir())])
    (wheel,) = DIST.glob("*.whl")

    for extra, commands in CHECKS.items():
        for resolution in RESOLUTIONS:
            print(f"# datas3t[{extra}], {resolution} versions", flush=True)
            check(wheel, extra, resolution, commands)
    print("# all checks passed")
    return 0


def check(wheel: Path, extra: str, resolution: str, commands: Sequence[Sequence[str]]) -> None:
    """Install the wheel with one extra into a new environment, and run the commands there."""
    environment = WORK / f"{extra or 'client'}-{resolution}"
    uv = TOOLS / "bin/uv"
    run([uv, "venv", "--quiet", "--python", sys.executable, environment])
    wanted = f"datas3t[{extra}] @ {wheel.as_uri()}" if extra else f"datas3t @ {wheel.as_uri()}"
    python = environment / "bin/python"
    run([uv, "pip", "install", "--quiet", "--python", python, "--resolution", resolution, wanted])
    for program, *arguments in commands:
        run([environment / "bin" / program, *arguments])


def run(command: Sequence[str | Path]) -> None:
    """Run a command outside the repository, so that no source is imported by accident; exit if it fails."""
    print("$", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = subprocess.run([str(part) for part in command], check=False, cwd=WORK, env=environment).returncode
    if code:
        sys.exit(f"# that failed with exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
