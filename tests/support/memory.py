"""How much memory a Python program needs at its peak, measured in its own process."""

import json
import subprocess
import sys

# VmHWM and not getrusage, whose maximum includes the memory of the process that forked this one.
_PEAK = """
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""


def memory_growth(setup: str, statements: str, arguments: object = None) -> int:
    """Return by how many MiB the statements raise the peak memory of a process that has run `setup` before.

    `arguments` is passed to the process as JSON; both pieces of code find it in a variable of that name.
    """
    read_arguments = "import json, sys\narguments = json.load(sys.stdin)"
    program = "\n".join((read_arguments, _PEAK, setup, "start = peak()", statements, "print(peak() - start)"))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=json.dumps(arguments), check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) >> 10
