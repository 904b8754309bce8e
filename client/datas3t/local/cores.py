"""How many cores this process may use."""

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Return the number of cores that the system lets this process use; that of a container is often a quota."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such quota
        quota, period = _QUOTA.read_text().split()
        available = min(available, math.ceil(int(quota) / int(period)))
    return max(1, available)
