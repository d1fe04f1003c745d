"""What every distribution's tests share: the fixtures of the real parts, and threads that are threads."""

import logging
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import oslo_messaging
import pytest

pytest_plugins = ["parts.fixtures"]

# `oslo_messaging.tests` replaces the whole process's threads by eventlet's as soon as one of its modules is imported,
# which happens at collection. The package is put in place without running its __init__, so that threads stay threads.
if "oslo_messaging.tests" not in sys.modules:
    package = types.ModuleType("oslo_messaging.tests")
    package.__path__ = [str(Path(oslo_messaging.__file__).parent / "tests")]
    sys.modules[package.__name__] = oslo_messaging.tests = package


_LOGGERS = (logging.getLogger(), logging.getLogger("federation"))
_LEVELS = [logger.level for logger in _LOGGERS]


@pytest.fixture(autouse=True)
def _levels_of_logging() -> Iterator[None]:
    """The command line sets them for the process: no test, and no fixture that outlives one, does so for the next."""
    for logger, level in zip(_LOGGERS, _LEVELS, strict=True):
        logger.setLevel(level)
    yield
    for logger, level in zip(_LOGGERS, _LEVELS, strict=True):
        logger.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the most slow tests come first: handed out file by file, none of them is then left for the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
