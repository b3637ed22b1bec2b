"""Run a command that ends when whoever started it ends, even by SIGKILL.

A program, not a module: `python -I -S bound.py PARENT_PID SIGNAL command...` asks the kernel for SIGNAL on the parent's
death (prctl(2), PR_SET_PDEATHSIG), then becomes the command. subprocess's `preexec_fn` could do the same, but it forks
a process that has threads, which may deadlock. Linux only; elsewhere the command runs unbound.

The kernel counts the death of the THREAD that started it: start servers from a thread that outlives them.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    # A shell starts background jobs with SIGINT ignored, and ignoring is inherited: nothing would stop on SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - a shell in between would be what dies


main()
