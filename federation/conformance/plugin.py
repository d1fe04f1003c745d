"""The pytest plugin: options, the bench, what a case may skip for, and the report.

Rules:

1. A case is skipped only because the driver does not declare a capability, and says which; any other skip is a failure.
2. A target that cannot be used (no such driver, unreachable hypervisor, a tool that is missing) fails; it never skips.
3. What a case made is removed after it; what is left behind fails the case.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from federation.conformance.bench import Bench, Subject
    from federation.conformance.observing import Observer
    from federation.conformance.target import Target

pytest.register_assert_rewrite(*(f"federation.conformance.{module}" for module in ("cases", "expecting", "trying")))

CAPABILITY = "capability "


def pytest_addoption(parser: pytest.Parser) -> None:
    """The kit's options."""
    group = parser.getgroup("conformance", "conformance of a driver of the federation")
    group.addoption("--conformance-driver", metavar="NAME", help="The driver: its entry point, or module:Class.")
    group.addoption("--conformance-config", metavar="FILE", help="TOML with [driver] and [conformance].")
    group.addoption("--conformance-report", metavar="DIR", help="Write JUnit, JSON, the scorecard and a badge there.")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, and the recorder in the process that reports."""
    config.addinivalue_line("markers", "clause(*ids): clauses of the contract that a conformance case checks")
    folder = config.getoption("--conformance-report")
    if folder and not hasattr(config, "workerinput"):
        from federation.conformance.scorecard import Recorder  # noqa: PLC0415 (nobody else pays for it)

        config.pluginmanager.register(Recorder(Path(folder)), "conformance-recorder")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """With ``--dist=loadgroup`` the cases of one scenario run in one process."""
    if config.getoption("dist") != "loadgroup":
        return None
    from federation.conformance.side_by_side import ScenarioScheduling  # noqa: PLC0415 (pytest-xdist may be missing)

    return ScenarioScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the report which clauses a case checks."""
    for item in items:
        clauses = [clause for mark in item.iter_markers("clause") for clause in mark.args]
        if clauses:
            item.user_properties.append(("clauses", ",".join(sorted(set(clauses)))))
            item.user_properties.append(("says", _first_sentence(item)))


@pytest.fixture(scope="session")
def conformance_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """What is tried; a driver's own test module overrides it."""
    from federation.conformance.target import TargetInvalid, load_target  # noqa: PLC0415

    driver, config = (request.config.getoption(f"--conformance-{name}") for name in ("driver", "config"))
    if not (driver and config):
        pytest.exit(
            "--conformance-driver and --conformance-config say what to try", returncode=pytest.ExitCode.USAGE_ERROR
        )
    scratch = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        yield load_target(driver, Path(config), scratch)
    except TargetInvalid as error:
        pytest.exit(f"the target cannot be used: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def conformance_observer(conformance_target: Target) -> Observer:
    """The kit's eyes on the hypervisor; a driver's own test module overrides it."""
    from federation.conformance.observing import make_observer  # noqa: PLC0415

    return make_observer(conformance_target)


@pytest.fixture(scope="session")
def conformance_bench(conformance_target: Target, conformance_observer: Observer) -> Iterator[Bench]:
    """The bench of this process; its making fails every case when the driver or the hypervisor cannot be used."""
    from federation.conformance.bench import Bench  # noqa: PLC0415

    bench = Bench(conformance_target, conformance_observer)
    yield bench
    bench.close()


@pytest.fixture
def bench(conformance_bench: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The bench for one case."""
    described = conformance_bench.description
    flags = ",".join(sorted(described.capabilities.flags))
    request.node.user_properties += [
        ("driver", described.driver),
        ("driver_version", described.driver_version),
        ("releases", "-".join(described.releases)),
        ("flags", flags),
        ("tried_on", conformance_bench.target.conformance.tried_on),
    ]
    yield conformance_bench
    trouble = conformance_bench.clean()
    if trouble:
        pytest.fail("; ".join(trouble))


@pytest.fixture
def subject(bench: Bench) -> Subject:
    """An instance's identity of this case alone."""
    return bench.subject()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Rule 1."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.skipped and item.get_closest_marker("clause") is not None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(CAPABILITY):
            report.outcome = "failed"
            report.longrepr = f"skipped for a reason that is no capability: {reason}"


def _first_sentence(item: pytest.Item) -> str:
    text = getattr(getattr(item, "obj", None), "__doc__", None) or item.name
    return " ".join(str(text).split("\n\n")[0].split())
