"""Start servers that outlive this process, and end them by their own pid.

A pid alone may be reused by a stranger, so a process is remembered as its pid and its start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parts.state import PartMissingError, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REAPER = Path(__file__).with_name("reaper.py")


def launch(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> dict[str, int]:
    """Start a server in a session of its own, its output appended to `log`; returns what identifies it."""
    return identify(_open(argv, log, env).pid)


def launch_reaped(argv: Sequence[str], log: Path) -> dict[str, int]:
    """Like launch, below a process that collects at once whatever the server leaves behind."""
    read, write = os.pipe()
    with os.fdopen(read) as told:
        try:
            _open([sys.executable, str(REAPER), str(write), *argv], log, pass_fds=[write])
        finally:
            os.close(write)
        pid = told.read()
    if not pid:
        raise PartMissingError(f"{argv[0]} did not start, see {log}")
    return identify(int(pid))


def _open(
    argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            start_new_session=True,
            cwd="/",
            pass_fds=pass_fds,
        )


def identify(pid: int) -> dict[str, int]:
    """A process as its pid and start time (clock ticks since boot)."""
    return {"pid": pid, "started": _start_time(pid) or 0}


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def is_alive(process: Mapping[str, int] | None) -> bool:
    """Whether the very process that was identified still runs."""
    return process is not None and _start_time(process["pid"]) == process["started"]


def send(process: Mapping[str, int] | None, number: signal.Signals) -> bool:
    """Send a signal to the very process that was identified; False when it is gone."""
    if process is None or not is_alive(process):
        return False
    try:
        os.kill(process["pid"], number)
    except ProcessLookupError:
        return False
    return True


def end(process: Mapping[str, int] | None, seconds: float = 60, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process by the signal `how`, and by SIGKILL when it has not gone within `seconds`."""
    send(process, signal.SIGCONT)
    if not send(process, how):
        return
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        _reap(process)
        time.sleep(0.05)
    kill(process)


def kill(process: Mapping[str, int] | None) -> None:
    """End a process by SIGKILL and wait until it is gone."""
    if process is None or not send(process, signal.SIGKILL):
        return

    def is_gone() -> bool:
        _reap(process)
        return not is_alive(process)

    wait_until(is_gone, 30, f"process {process['pid']} to go after SIGKILL", step=0.02)


def _reap(process: Mapping[str, int] | None) -> None:
    """Collect our own dead child; a server started by an earlier command is nobody's child of ours."""
    if process is None:
        return
    try:
        os.waitpid(process["pid"], os.WNOHANG)
    except ChildProcessError:
        return


def run(
    argv: Sequence[str], seconds: float = 300, env: Mapping[str, str] | None = None, cwd: Path | str | None = None
) -> str:
    """Run a command to its end and return what it printed.

    Raises PartMissingError with the command's last lines when it fails, is absent, or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
            env=env,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise PartMissingError(f"command {argv[0]!r} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissingError(f"{' '.join(argv)} did not end within {seconds:g} s") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise PartMissingError(f"{' '.join(argv)} failed with status {done.returncode}:\n{tail}")
    return done.stdout
