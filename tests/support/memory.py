"""How much more memory a program of its own takes at its peak."""

import json
import subprocess
import sys

# getrusage would not do: it counts what the process had that started the program
_PEAK = """
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""


def grown(before: str, what: str, told: object = None) -> int:
    """How much the peak grows by what Python statements do, in MiB; `told` they have as `told`, and what ran before."""
    told_first = "import json, sys\ntold = json.load(sys.stdin)"
    program = "\n".join((told_first, _PEAK, before, "start = peak()", what, "print(peak() - start)"))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=json.dumps(told), check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) >> 10
