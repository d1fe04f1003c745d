"""The kit, tried on the simulated driver and on drivers that are broken on purpose."""

import importlib
import inspect

import msgspec
import pytest

from federation.conformance.bench import Bench
from federation.conformance.scenarios import BY_ID
from federation.conformance.target import load_target
from federation.contract.capabilities import Capability
from federation.contract.operations import find

CONFIG = """
[driver]
state_directory = "{scratch}/hypervisor"
upload_directories = ["{scratch}/captured"]
volumes = [{ name = "golden" }, { name = "data-1" }]
templates = [{ name = "base" }]

[conformance]
observer = "federation.conformance.simulated:SimulatedObserver"
networks = ["lan"]
volumes = ["data-1"]
capture_url = "file://{scratch}/captured"
operation_seconds = 20.0

[[conformance.boots]]
kind = "image"
url = "https://images.example/base.qcow2"
checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
format = "qcow2"

[[conformance.boots]]
kind = "template"
template = "base"

[[conformance.boots]]
kind = "volume"
volume = "golden"

[[conformance.boots]]
kind = "kernel"
kernel_url = "https://images.example/vmlinuz"
kernel_checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000002"
initrd_url = "https://images.example/initrd"
initrd_checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000003"

[[conformance.unavailable_boots]]
kind = "image"
url = "missing://nowhere"
checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
format = "qcow2"

[[conformance.rejected_boots]]
kind = "image"
url = "corrupt://image"
checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
format = "qcow2"
"""


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "conformance.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def make_bench(config_file, tmp_path):
    made = []

    def make(driver, **changes):
        target = load_target(driver, config_file, tmp_path)
        conformance = msgspec.structs.replace(target.conformance, **changes)
        made.append(Bench(msgspec.structs.replace(target, conformance=conformance)))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def run_case(tmp_path):
    def run(bench, module, case, scenario="", **parameters):
        """Run one case as pytest would, on this bench; raises what the case raises, or AssertionError for what is left."""
        function = getattr(importlib.import_module(f"federation.conformance.cases.{module}"), case)
        wanted = inspect.signature(function).parameters
        given = dict(parameters)
        if scenario:
            given["scenario"] = BY_ID[scenario]
        if "flag" in given:
            given["flag"] = Capability(given["flag"])
        if module == "test_errors" and "operation" in given and "DECLARED" in case.upper():
            given["operation"] = find(given["operation"])
        if "subject" in wanted:
            given["subject"] = bench.subject()
        if "tmp_path" in wanted:
            given["tmp_path"] = tmp_path
        function(bench=bench, **given)
        trouble = bench.clean()
        assert not trouble, trouble

    return run
