"""What a driver says when something goes wrong: declared codes only, no secrets, nothing half done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from federation.conformance.asking import creation
from federation.conformance.bench import Bench, Subject
from federation.conformance.process import Run
from federation.conformance.target import convert_settings
from federation.conformance.trying import require, usable_scenario
from federation.contract.capabilities import Capability
from federation.contract.errors import CATALOGUE
from federation.contract.operations import DECLARED, Operation, find
from federation.contract.validation import parse_request, required_capabilities
from federation.worker.redaction import secrets_of

CANARY = "canary-8d1f27"
ORDERED = [operation for operation in DECLARED if "instance" in operation.request.__struct_fields__]


def _words(run: Run) -> str:
    assert run.done is not None
    return f"{run.done.error} {run.done.detail} {run.outcome.message} {run.outcome.detail}"


@pytest.mark.clause("ERR-1")
@pytest.mark.parametrize("operation", ORDERED, ids=lambda o: f"{o.name}-{o.revision}")
def test_what_it_raises_is_in_the_catalogue_and_declared(bench: Bench, subject: Subject, operation: Operation) -> None:
    """Asked for a machine that is not there, the driver itself raises what the operation declares, or succeeds."""
    if operation.name in {"adopt", "set_admin_password", "get_console"}:
        request: dict[str, Any] = {
            "adopt": {"name": subject.name, "node": subject.node},
            "set_admin_password": {"password": CANARY},
            "get_console": {"kind": "vnc"},
        }[operation.name] | {"instance": subject.instance}
    elif operation.name.startswith(("get_", "list_")):
        request = {"instance": subject.instance}
    else:
        request = usable_scenario(bench, operation.name).ask(bench, subject)
    require(bench, required_capabilities(operation, parse_request(operation, request)))
    if operation.name == "create":
        request["spec"]["node"] = "no-such-node"
    run = bench.do(operation.name, request, bare=True)
    code = str(run.outcome.code or "")
    assert not code or (code in CATALOGUE and operation.may_raise(code)), (
        f"{operation.name} raised {code}: {_words(run)}"
    )


@pytest.mark.clause("ERR-2")
@pytest.mark.parametrize("what", ["user_data", "ssh_keys", "metadata"])
def test_what_a_user_keeps_secret_is_in_no_message(bench: Bench, subject: Subject, what: str) -> None:
    """A creation that is refused says nothing of user data, keys or metadata."""
    guest = (
        {"user_data": f"#cloud-config\npassword: {CANARY}\n"}
        if what == "user_data"
        else {"ssh_keys": [f"ssh-rsa {CANARY}"]}
    )
    more: dict[str, Any] = {"metadata": {"token": CANARY}} if what == "metadata" else {"guest": guest}
    require(bench, [Capability.USER_DATA] if what != "metadata" else [])
    for wrong in ({"node": "no-such-node"}, {"flavour": {"vcpus": 1, "memory_bytes": 1 << 45}}):
        request = creation(**more)(bench, subject)
        request["spec"] |= wrong
        run = bench.do("create", request, bare=True)
        assert run.outcome.code != "", "a creation that cannot be succeeded"
        assert CANARY not in _words(run)


@pytest.mark.clause("ERR-2")
def test_a_password_in_a_url_is_in_no_outcome(bench: Bench, subject: Subject) -> None:
    """What leaves the worker about an image that cannot be read does not hold the password of its URL."""
    require(bench, [Capability.BOOT_IMAGE])
    boots = bench.target.conformance.unavailable_boots
    assert boots, "[conformance] unavailable_boots is empty, but the driver declares boot_image"
    boot = msgspec.to_builtins(boots[0])
    scheme, _, rest = boot["url"].partition("://")
    boot["url"] = f"{scheme}://somebody:{CANARY}@{rest.lstrip('/') or 'example.org'}"
    run = bench.do("create", creation(boot=boot)(bench, subject))
    assert run.code != "succeeded"
    assert CANARY not in _words(run)


@pytest.mark.clause("ERR-2")
def test_the_settings_secrets_are_in_no_message(bench: Bench, subject: Subject) -> None:
    """Nothing of a setting that is named like a secret is in what the driver says when it refuses."""
    secrets = secrets_of(convert_settings(bench.target))
    for name, request in (
        ("get_instance", {"instance": subject.instance}),
        ("power_on", {"instance": subject.instance}),
        ("list_instances", {"node": "no-such-node"}),
    ):
        words = _words(bench.do(name, request, bare=True))
        assert [1 for secret in secrets if secret in words] == [], f"{name} tells a secret of the settings"


@pytest.mark.clause("ERR-5")
@pytest.mark.parametrize("operation", ["get_instance", "power_on", "power_off"])
def test_a_refusal_names_what_it_is_about(bench: Bench, subject: Subject, operation: str) -> None:
    """One sentence for people that names the instance."""
    run = bench.do(operation, {"instance": subject.instance})
    assert subject.instance in run.outcome.message, run.outcome.message


@pytest.mark.clause("ERR-1", "DRV-8")
@pytest.mark.parametrize("code", ["destroy", "power_on", "create"])
def test_no_operation_ends_as_a_bug_of_the_driver(bench: Bench, subject: Subject, code: str) -> None:
    """Whatever state it meets: an outcome of the catalogue that is not driver_bug, and in time."""
    request = creation(start=False)(bench, subject) if code == "create" else {"instance": subject.instance}
    for attempt in (1, 2, 7):
        run = bench.do(code, request, operation=subject.operation, attempt=attempt)
        assert run.code not in {"driver_bug", "outcome_unknown"}, run.outcome
        assert find(code).may_raise(run.code) or run.code == "succeeded"
