"""What a driver's source may not hold: locks (claim C7), and imports of ours but the contract."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

LOCKS = frozenset(
    {
        "BoundedSemaphore",
        "Condition",
        "Lock",
        "LockType",
        "RLock",
        "Semaphore",
        "acquire",
        "allocate_lock",
        "flock",
        "lockf",
    }
)
LOCK_LIBRARIES = frozenset(
    {
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
)
ALLOWED = "federation.contract"


def sources_of(module: str) -> list[Path]:
    """The files of a driver: its whole top package, or the one module where that is part of this distribution."""
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:
        spec = importlib.util.find_spec(module)
        return [Path(spec.origin)] if spec is not None and spec.origin else []
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [
        path for folder in folders for path in folder.rglob("*.py") if "tests" not in path.relative_to(folder).parts
    ]
    return _without_doubles(top, sorted(files), folders) if folders else [Path(str(spec.origin))]


def _without_doubles(top: str, files: list[Path], folders: list[Path]) -> list[Path]:
    """Leave out what a driver ships for tests (its package ``testing``), unless the rest of it uses that."""
    shipped = {folder / "testing" for folder in folders}
    own = [path for path in files if not shipped & set(path.parents)]
    doubles = f"{top}.testing"
    used = any(
        name == doubles or name.startswith(f"{doubles}.")
        for path in own
        for name in imports_in(path.read_text(encoding="utf-8"))
    )
    return files if used else own


def locks_in(source: str) -> set[str]:
    """Names of locks, and of libraries that are for nothing else, that a program mentions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names} & LOCKS
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & LOCKS
        elif isinstance(node, ast.Name):
            found |= {node.id} & LOCKS
    return found | ({name.partition(".")[0] for name in imports_in(source)} & LOCK_LIBRARIES)


def imports_in(source: str) -> Iterator[str]:
    """The modules that a program imports, where they are named absolutely."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports_in(source: str) -> set[str]:
    """Imports of ours that a driver may not have."""
    return {
        name
        for name in imports_in(source)
        if name.partition(".")[0] == "federation" and not (name == ALLOWED or name.startswith(f"{ALLOWED}."))
    }
