"""The file in which a simulated hypervisor lives: SQLite, shared by processes and threads, short transactions.

It plays the hypervisor, which serialises changes too.  What is committed outlives any killed process; it need not outlive
the machine, so nothing is flushed to the disk.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from federation.contract.errors import HypervisorUnreachable

Connection = sqlite3.Connection

BUSY_SECONDS = 30.0
FILE = "hypervisor.sqlite3"

_SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")


class Database:
    """Connections to one state directory; made when needed, used by one thread at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / FILE
        # A deque's append and pop are atomic, so no lock is needed to lend connections to threads.
        self._idle: deque[Connection] = deque()
        connection = self._connect()
        _create(connection)
        self._idle.append(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Write: everything or nothing, one writer at a time over all processes.

        Raises HypervisorUnreachable when the file stays busy or cannot be used; nothing was changed then.
        """
        connection = self._take()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            raise HypervisorUnreachable(f"the simulated hypervisor does not answer: {error}", path=self.path) from error
        except BaseException:
            _roll_back(connection)
            raise
        finally:
            self._idle.append(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read what is committed.  Raises HypervisorUnreachable when the file cannot be used."""
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            raise HypervisorUnreachable(f"the simulated hypervisor does not answer: {error}", path=self.path) from error
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close every idle connection; later use opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=128
        )
        connection.execute("PRAGMA synchronous = OFF")
        return connection


# Two processes that switch a new file to WAL at once get SQLITE_BUSY without the busy timeout being honoured.
@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    stop=stop_after_delay(BUSY_SECONDS),
    wait=wait_random(0.01, 0.05),
    reraise=True,
)
def _create(connection: Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)


def _roll_back(connection: Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
