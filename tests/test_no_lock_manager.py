"""No driver has a lock manager: the broker gives the order (claim C7 of the architecture)."""

import ast
from pathlib import Path

import pytest

DRIVERS = Path(__file__).resolve().parent.parent / "drivers"
LOCKS = {
    "BoundedSemaphore", "Condition", "Lock", "LockType", "RLock", "Semaphore", "acquire", "allocate_lock", "flock", "lockf",
}  # fmt: skip
LOCK_LIBRARIES = {
    "_thread",
    "etcd3",
    "fasteners",
    "fcntl",
    "filelock",
    "kazoo",
    "oslo_concurrency",
    "portalocker",
    "redis",
    "tooz",
}


def locks_in(source):
    """The names of locks, and of libraries that are for nothing else, that a program mentions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & LOCK_LIBRARIES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0]} & LOCK_LIBRARIES
            found |= {alias.name for alias in node.names} & LOCKS
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & LOCKS
        elif isinstance(node, ast.Name):
            found |= {node.id} & LOCKS
    return found


def test_no_driver_holds_a_lock():
    # A driver's own simulated hypervisor, which it ships for tests, is no part of what drives.
    sources = [path for path in DRIVERS.glob("*/federation_*/**/*.py") if not {"tests", "testing"} & set(path.parts)]
    assert sources
    assert {str(path): locks for path in sources if (locks := locks_in(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import threading\nlock = threading.Lock()",
        "from threading import RLock as Fine",
        "import asyncio\nturn = asyncio.Semaphore(1)",
        "import fcntl",
        "from oslo_concurrency import lockutils",
        "from multiprocessing import Condition",
        "def wait(anything):\n    anything.acquire()",
    ],
)
def test_a_lock_is_found(source):
    assert locks_in(source)
