"""The command that starts simulated hosts for people without Windows."""

import json
import os
import signal
import subprocess
import sys

import pytest

from federation_hyperv.testing.effects import read_effects
from federation_hyperv.wsman import AccessDenied, Host, Login

PROGRAM = [sys.executable, "-c", "from federation_hyperv.testing.command import main; main()"]


def test_the_command_says_where_its_hosts_listen_and_ends_when_it_is_told_to(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("a-password\n")
    options = [
        "--folder",
        tmp_path / "hosts",
        "--host",
        "A",
        "--host",
        "B",
        "--password-file",
        secret,
        "--fault",
        "deny:Enumerate:B",
    ]
    with subprocess.Popen([*PROGRAM, *map(str, options)], stdout=subprocess.PIPE, text=True) as process:
        try:
            told = json.loads(process.stdout.readline())
            for name, answer in (("A", "A"), ("B", None)):
                where = told["hosts"][name]
                host = Host(
                    Login(**where, tls=False, authentication="ntlm", username=told["user"], password="a-password")
                )
                if answer:
                    assert host.computer_name() == answer
                else:
                    with pytest.raises(AccessDenied):
                        host.computer_name()
            assert read_effects(told["effects"]) == []
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    assert "a-password" not in json.dumps(told)


def test_the_command_wants_a_password(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "FEDERATION_HYPERV_SIM_PASSWORD"}
    done = subprocess.run(
        [*PROGRAM, "--folder", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 2
    assert "--password-file" in done.stderr
