"""What is declared in the contract can be said on the command line."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from federation.cli.instances import instance
from federation.cli.request_options import options_of
from federation.contract.operations import DECLARED, Operation, find
from federation.contract.requests import InstanceRequest
from federation.contract.validation import parse_request

MACHINE = "00000000-0000-7000-8000-000000000001"
SNAPSHOT = "00000000-0000-7000-8000-000000000002"
SAID: dict[str, dict[str, list[str]]] = {
    "adopt": {"": ["--name", "old", "--node", "n1", "--metadata", "owner=me"]},
    "resize": {"": ["--vcpus", "2", "--memory", "1GiB"]},
    "attach_volume": {
        "stored": ["--volume", "v1", "--format", "raw", "--read-only"],
        "new": ["--volume", "v1", "--size", "1GiB", "--pool", "fast"],
    },
    "detach_volume": {"": ["--volume", "v1", "--delete", "--timeout", "5"]},
    "extend_volume": {"": ["--volume", "v1", "--size", "2GiB"]},
    "attach_interface": {"": ["--network", "net", "--mac", "52:54:00:00:00:01", "--vlan", "7"]},
    "detach_interface": {"": ["--mac", "52:54:00:00:00:01"]},
    "create_snapshot": {"": ["--name", "before the upgrade", "--memory"]},
    "revert_snapshot": {"": ["--snapshot", SNAPSHOT]},
    "delete_snapshot": {"": ["--snapshot", SNAPSHOT]},
    "capture_image": {
        "template": ["--template", "golden"],
        "upload": ["--url", "https://images.example/x.qcow2", "--format", "qcow2"],
    },
    "migrate": {"": ["--node", "n2", "--mode", "cold"]},
    "get_console": {"": ["--kind", "vnc"]},
}


def said(operation: Operation, words: list[str], **extra: Any) -> dict[str, Any]:
    """The arguments that a command line makes."""
    made = options_of(operation.request)
    arguments: dict[str, Any] = {}

    def gather(**values: Any) -> None:
        arguments.update(made.gather(values))

    command: Any = gather
    for option in made.options:
        command = option(command)
    click.command()(command).main(words, standalone_mode=False, **extra)
    return {"instance": MACHINE, **arguments}


def cases() -> list[Any]:
    """Every operation about an instance, with what its request demands."""
    written_out = {"create", "set_admin_password"}
    rows = [
        (operation, kind, words)
        for operation in DECLARED
        if issubclass(operation.request, InstanceRequest) and operation.name not in written_out
        for kind, words in SAID.get(operation.name, {"": []}).items()
    ]
    return [pytest.param(*row, id=f"{row[0].name} {row[1]}".strip()) for row in rows]


@pytest.mark.parametrize(("operation", "kind", "words"), cases())
def test_what_is_said_is_a_valid_request(operation: Operation, kind: str, words: list[str]) -> None:
    arguments = said(operation, words)
    parse_request(operation, arguments)
    tagged = [value["kind"] for value in arguments.values() if isinstance(value, dict) and "kind" in value]
    assert tagged == ([kind] if kind else [])


def test_options_of_two_kinds_do_not_go_together() -> None:
    with pytest.raises(click.UsageError, match=r"--template .*; or --format --url"):
        said(find("capture_image"), ["--template", "golden", "--url", "https://images.example/x"])


def test_a_password_is_read_from_a_file_or_asked_for_and_never_an_argument(tmp_path: Any) -> None:
    operation = find("set_admin_password")
    secret = tmp_path / "password"
    secret.write_text("s3cret word\nsecond line\n")
    assert said(operation, ["--password-file", str(secret)])["password"] == "s3cret word"
    with pytest.raises(click.NoSuchOption):
        said(operation, ["--password", "s3cret"])


def test_every_operation_of_an_instance_is_a_command() -> None:
    shown = CliRunner().invoke(instance, ["--help"]).output
    own = {"get_instance": "show"}
    verbs = [own.get(o.name, o.verb) for o in DECLARED if issubclass(o.request, InstanceRequest)]
    assert [verb for verb in verbs if f"\n  {verb} " not in shown] == []
