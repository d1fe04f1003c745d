"""What a driver is: its class, its source, what it says of itself, its settings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from federation.conformance.bench import Bench
from federation.conformance.source_rules import forbidden_imports_in, locks_in, sources_of
from federation.conformance.target import driver_class
from federation.contract.operations import DECLARED, Operation
from federation.contract.release import CURRENT, Release
from federation.worker.boundary import method_name
from federation.worker.drivers import read_settings
from federation.worker.errors import SettingsInvalid

EACH = pytest.mark.parametrize("operation", DECLARED, ids=method_name)


@pytest.mark.clause("DRV-1")
@pytest.mark.parametrize("member", ["settings", "open", "description", "close"])
def test_it_has_what_every_driver_has(bench: Bench, member: str) -> None:
    """The class has the members of federation.contract.driver.Driver."""
    assert hasattr(driver_class(bench.target.driver), member)


@pytest.mark.clause("DRV-1", "DRV-7", "CAP-1")
@EACH
def test_it_has_a_method_for_every_operation_that_it_serves(bench: Bench, operation: Operation) -> None:
    """Every operation of the releases that it serves, unless it needs a capability that is not declared."""
    wanted = Release.parse(operation.since) <= Release.parse(bench.description.releases[1])
    declared = operation.capability is None or operation.capability in bench.flags
    if wanted and declared:
        assert callable(getattr(driver_class(bench.target.driver), method_name(operation), None))


@pytest.mark.clause("DRV-5")
def test_it_says_the_same_in_process_and_over_the_bus(bench: Bench) -> None:
    """``description`` and the query ``describe`` agree."""
    assert msgspec.convert(bench.succeed("describe", {}), type(bench.description)) == bench.description


@pytest.mark.clause("DRV-5", "VER-1")
def test_it_names_itself_and_its_releases(bench: Bench) -> None:
    """A name, a version, and a range of releases that is in order and that this kit knows the lower end of."""
    described = bench.description
    lowest, highest = (Release.parse(release) for release in described.releases)
    assert described.driver.strip()
    assert described.driver_version.strip()
    assert lowest <= highest
    assert lowest <= CURRENT
    if ":" not in bench.target.driver:
        assert described.driver == bench.target.driver, "the entry point has another name than the driver says"


@pytest.mark.clause("CAP-3")
def test_its_limits_are_numbers_that_something_can_be_below(bench: Bench) -> None:
    """A declared limit is at least 1: a driver that can do nothing of a kind does not declare the capability."""
    limits = msgspec.structs.asdict(bench.description.capabilities.limits)
    assert {name: value for name, value in limits.items() if value is not None and value < 1} == {}


@pytest.mark.clause("DRV-6")
def test_its_settings_refuse_a_name_that_they_do_not_know(bench: Bench, tmp_path: Path) -> None:
    """An operator who mistypes a setting is told which."""
    driver = driver_class(bench.target.driver)
    assert issubclass(driver.settings, msgspec.Struct)
    assert driver.settings.__struct_config__.forbid_unknown_fields, "unknown settings are dropped silently"
    config = tmp_path / "driver.toml"
    config.write_text("[driver]\nsurprising_setting = 1\n", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match="surprising_setting"):
        read_settings(config, driver)


@pytest.mark.clause("DRV-4")
def test_its_source_holds_no_lock(bench: Bench) -> None:
    """No lock, semaphore or mutex, and no library that is for nothing else: the broker gives the order."""
    sources = sources_of(driver_class(bench.target.driver).__module__)
    assert sources, "the driver's source cannot be found"
    assert {path.name: held for path in sources if (held := locks_in(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.clause("DRV-2")
def test_its_source_imports_nothing_of_ours_but_the_contract(bench: Bench) -> None:
    """A driver is released on its own, so it may lean on the contract only."""
    module = driver_class(bench.target.driver).__module__
    own = module.rpartition(".")[0] or module
    if own.partition(".")[0] == "federation":
        return  # shipped with the core, released with it
    found = {
        path.name: [
            name for name in sorted(forbidden_imports_in(path.read_text(encoding="utf-8"))) if not name.startswith(own)
        ]
        for path in sources_of(module)
    }
    assert {name: imports for name, imports in found.items() if imports} == {}


@pytest.mark.clause("DRV-3")
def test_it_can_be_opened_twice_and_closed(bench: Bench) -> None:
    """A second worker of the cluster opens a driver of its own, which answers, and closes it in time."""
    with bench.another_process() as process:
        assert process.description == bench.description
        assert process.run("probe", {}).result()["reachable"]
