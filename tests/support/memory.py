"""How much memory a Python program needs at its peak, measured in its own process."""

import json
import os
import subprocess
import sys

# VmHWM and not getrusage, whose maximum includes the memory of the process that forked this one.
_PEAK = """
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""

# glibc keeps what was freed, in an arena for each thread and more and more of it, so that its peak depends on which
# thread was when where. With these settings large blocks go back to the system at once, and one arena has the others.
_EVEN_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def memory_growth(setup: str, statements: str, arguments: object = None) -> int:
    """Return by how many MiB the statements raise the peak memory of a process that has run `setup` before.

    `arguments` is passed to the process as JSON; both pieces of code find it in a variable of that name.
    """
    read_arguments = "import json, sys\narguments = json.load(sys.stdin)"
    program = "\n".join((read_arguments, _PEAK, setup, "start = peak()", statements, "print(peak() - start)"))
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command,
        env=os.environ | _EVEN_ALLOCATOR,
        input=json.dumps(arguments),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout) >> 10
