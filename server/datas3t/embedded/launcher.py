"""Run a program that ends with its parent, as another account if one is given.

This file runs as a script in a new interpreter: `launcher.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT ...]`, with an
empty UID and GID for the account that runs it. The alternative, a `preexec_fn` or the `user` of subprocess.Popen, forks
the calling process with all fork handlers of its libraries. gRPC's abort the child now and then while a server runs.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Change the account, ask the kernel for a signal at the parent's death, and become the program."""
    parent, death_signal, uid, gid, *command = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        # This must follow the change of account, which resets it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):  # the parent died before the call
        os._exit(1)
    os.execv(command[0], command)  # noqa: S606 - there is no shell to start


if __name__ == "__main__":
    main()
