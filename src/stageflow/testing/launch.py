"""Turn this process into a server that the kernel stops when the process that asked for it dies.

Run as a file, ``python -I -S launch.py PARENT_PID SIGNAL USER ARGV...``: a step between fork and exec that, unlike
``preexec_fn``, is safe in a process with threads.
"""

import ctypes
import os
import pwd
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def launch(parent: int, death_signal: int, user: str, argv: list[str]) -> NoReturn:
    """Become ``argv``, as ``user`` unless that is empty, bound to the life of ``parent``.

    Raises:
        OSError: The program cannot be run, or the kernel refuses the signal.
    """
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([entry.pw_gid])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        # After the change of user, which clears the signal. See prctl(2).
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        sys.exit("the process that asked for this server died before it started")
    os.execv(argv[0], argv)  # noqa: S606 - the whole purpose: no shell, the caller's own argument list


if __name__ == "__main__":
    launch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
