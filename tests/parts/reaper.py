"""Run a server, and collect at once whatever it leaves behind: `python reaper.py FD COMMAND...` writes its pid to FD.

libvirtd lets its QEMUs be adopted, and waits for one that it ends until its process is gone.  Where the first process of a
machine collects the dead every second or two, as in some sandboxes, every end of a virtual machine took that long.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def main() -> None:
    """Start the command in a session of its own; stay until all that came from it has ended."""
    descriptor, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    server = subprocess.Popen(command, start_new_session=True)
    with os.fdopen(int(descriptor), "w") as told:
        told.write(str(server.pid))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
