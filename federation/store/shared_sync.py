"""Commits of several threads share one wait for the disk.

SQLite with synchronous=FULL waits for the disk inside every commit, and all other writers wait with it.  With NORMAL it
writes the same bytes to the write-ahead log and does not wait (https://www.sqlite.org/pragma.html#pragma_synchronous:
"WAL mode … transactions might roll back following a power loss").  Here the waiting is made up for behind the commit,
with nothing locked: whoever has committed returns only when an fdatasync of the log has ended that began after its
commit.  One of those who wait does it for all.  So what was promised to a caller survives a power failure as with FULL;
what another transaction could read a moment earlier may not, and then neither does what that one wrote, which is later in
the same log.  A command that was published on the strength of such a read is refused: no manager accepted it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from federation.protocol.errors import StoreUnavailable

_to_disk: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class SharedSync:
    """The log of one database file; ``patience`` bounds the wait for another thread's sync, in seconds.

    ``sync`` writes an open file to the disk, or raises OSError.
    """

    def __init__(self, database: Path, patience: float, sync: Callable[[int], None] = _to_disk) -> None:
        self._sync = sync
        self._log = Path(f"{database}-wal")
        self._patience = patience
        self._changed = threading.Condition()
        self._asked = 0
        self._ended = 0
        self._failed = 0
        self._busy = False

    def wait(self) -> None:
        """Return when all that this thread has committed is on the disk; StoreUnavailable when nobody can say so."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            if not self._changed.wait_for(lambda: self._ended >= mine or not self._busy, self._patience):
                raise StoreUnavailable(f"the disk did not answer for {self._patience:g} s; try again later")
            if self._ended >= mine:
                if self._failed >= mine:
                    raise StoreUnavailable("the disk could not keep what was written; try again later")
                return
            self._busy = True
            covered = self._asked
        self._sync_all(covered)

    def _sync_all(self, covered: int) -> None:
        failed = True
        try:
            # SQLite removes its log only when all of it is in the database file and that is on the disk.
            with suppress(FileNotFoundError):
                self._sync_log()
            failed = False
        except OSError as error:
            raise StoreUnavailable(f"the disk could not keep what was written: {error}") from error
        finally:
            with self._changed:
                # After a failed sync the system takes the pages for written, so nobody of this round may try again.
                self._ended, self._busy = covered, False
                if failed:
                    self._failed = covered
                self._changed.notify_all()

    def _sync_log(self) -> None:
        """Open it each time: SQLite may have made it anew.  SQLite's locks are on other files, closing loses none."""
        log = os.open(self._log, os.O_RDONLY)
        try:
            self._sync(log)
        finally:
            os.close(log)
