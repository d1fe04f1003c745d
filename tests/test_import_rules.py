"""Each import rule of pyproject.toml is broken once, in a copy of the code, to show that it is checked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"federation": ROOT, "federation_libvirt": ROOT / "drivers/libvirt"}
BREAKING = [
    ("layers", "federation/worker/planted.py", "import federation.manager"),
    ("layers", "federation/store/planted.py", "import federation.bus"),
    ("layers", "federation/contract/planted.py", "import federation.protocol"),
    ("layers", "federation/manager/planted.py", "import federation.testing"),
    ("layers", "federation/cli/planted.py", "import federation.conformance"),
    ("layers", "federation/worker/planted.py", "import federation.config"),
    ("layers", "federation/utils.py", "import federation.contract"),
    ("options", "federation/api/planted.py", "import federation.config"),
    ("amqp", "federation/manager/planted.py", "import kombu"),
    ("amqp", "federation/testing/planted.py", "from oslo_messaging import get_rpc_transport"),
    ("sql", "federation/cli/planted.py", "import sqlalchemy.orm"),
    ("sans-io", "federation/protocol/planted.py", "import threading"),
    ("sans-io", "federation/contract/planted.py", "import socket"),
    ("drivers", "drivers/libvirt/federation_libvirt/planted.py", "import federation.protocol"),
    ("no-driver", "federation/bootstrap_planted.py", "import federation_libvirt"),
    ("libvirt", "drivers/libvirt/federation_libvirt/planted.py", "import libvirt"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name, home in PACKAGES.items():
        shutil.copytree(home / name, folder / home.relative_to(ROOT) / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken_contract(folder, contract):
    """Whether import-linter finds the contract broken, and what it printed."""
    paths = [str(folder / home.relative_to(ROOT)) for home in PACKAGES.values()]
    # The copy must win over the editable installation.
    program = f"import sys; sys.path[:0] = {paths!r}; from importlinter.cli import lint_imports_command; lint_imports_command()"
    arguments = ["--config", "pyproject.toml", "--contract", contract, "--no-cache"]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return done.returncode != 0, done.stdout


@pytest.mark.parametrize("contract", sorted({contract for contract, _, _ in BREAKING}))
def test_the_code_keeps_the_rule(copy, contract):
    is_broken, printed = broken_contract(copy, contract)
    assert not is_broken, printed


@pytest.mark.parametrize(("contract", "path", "line"), BREAKING, ids=[f"{path}: {line}" for _, path, line in BREAKING])
def test_breaking_the_rule_is_noticed(copy, contract, path, line):
    planted = copy / path
    planted.write_text(f'"""Planted."""\n\n{line}\n')
    try:
        is_broken, printed = broken_contract(copy, contract)
    finally:
        planted.unlink()
    assert is_broken, printed
