"""The help of commands, and what shells complete."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from cli.conftest import MACHINE
from click.shell_completion import ShellComplete

from federation.cli.main import _COMMANDS, root


def commands(group=root, words=("federation",)):
    """Every command of ours with the words that call it."""
    ctx = click.Context(group, info_name=words[-1])
    for name in _COMMANDS if group is root else group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


EVERY = list(commands())


def examples(command):
    lines = (command.epilog or "").splitlines()
    return [line.strip().partition("  ")[0] for line in lines if "federation " in line]


@pytest.mark.parametrize(("words", "command"), EVERY, ids=[" ".join(words[1:]) for words, _ in EVERY])
def test_every_command_has_examples_that_it_understands(words, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for file in ("token", "lab-ca.pem", "libvirt.toml"):
        (tmp_path / file).write_text("x")
    shown = examples(command)
    assert shown
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 10))
    for line in shown:
        parts = line.split(" > ")[0].split(" | ")
        part = next((part for part in parts if part.startswith(" ".join(words))), parts[0])
        typed = [word for word in shlex.split(part) if "=" not in word or word.startswith("-")]
        if typed[0] != "federation":  # it stands within a line of the shell
            continue
        assert tuple(typed[: len(words)]) == words or "--context" in typed, line
        understood(root, typed[1:])


def understood(group, words):
    """Parse as the command line would, without doing anything."""
    with group.make_context("federation", list(words)) as ctx:
        if isinstance(group, click.Group) and (rest := [*ctx._protected_args, *ctx.args]):
            _, command, rest = group.resolve_command(ctx, rest)
            understood(command, rest)


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_own_help_says(name):
    command = root.get_command(click.Context(root), name)
    assert command.help.partition("\n")[0] == _COMMANDS[name][1]


def test_every_command_takes_the_form_of_its_output():
    assert [
        words for words, command in EVERY if not {"-o", "--output"} & {o for p in command.params for o in p.opts}
    ] == []


def complete(person, *words):
    """What a shell would offer for the last of these words."""
    *args, incomplete = words
    before = dict(os.environ)
    os.environ.update({name: value for name, value in person.environment.items() if value is not None})
    try:
        return [item.value for item in ShellComplete(root, {}, "federation", "_X").get_completions(args, incomplete)]
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_names_are_completed_from_the_manager(admin):
    admin.ok("instance", "create", "tab-1", "--cluster", "lab", *MACHINE)
    assert complete(admin, "instance", "stop", "tab") == ["tab-1"]
    assert complete(admin, "instance", "show", "--cluster", "prod", "tab") == []
    assert complete(admin, "cluster", "show", "l") == ["lab"]
    assert "node-1" in complete(admin, "node", "maintenance", "--cluster", "lab", "n")
    assert "node-1" in complete(admin, "instance", "migrate", "tab-1", "--node", "")
    assert complete(admin, "worker", "drain", "lab") == ["lab-1"]
    assert complete(admin, "context", "use", "") == ["lab", "local"]
    assert complete(admin, "--context", "l") == ["lab", "local"]
    assert len(complete(admin, "operation", "watch", "")) >= 1
    assert {"instance", "top", "demo"} <= set(complete(admin, ""))
    assert complete(admin, "instance", "create", "x", "--format", "q") == ["qcow2"]


def test_completion_is_silent_and_quick_where_nothing_answers(person, manager, proxy, capsys):
    person.log_in(proxy.address, manager.token("reader")[0])
    proxy.end()
    started = time.monotonic()
    assert complete(person, "instance", "stop", "") == []
    assert time.monotonic() - started < 5
    person.file.write_text("{")
    assert complete(person, "instance", "stop", "") == complete(person, "context", "use", "") == []
    assert capsys.readouterr() == ("", "")


def test_nothing_is_asked_over_the_broker(operator):
    operator.environment["FEDERATION_BROKER"] = "federation://nobody@127.0.0.1:1/"
    assert complete(operator, "instance", "stop", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_reads_what_is_written_for_it(shell, person):
    script = person.ok("completion", shell).stdout
    assert "_FEDERATION_COMPLETE" in script
    if shutil.which(shell):
        flag = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, flag], input=script, text=True, check=True, timeout=30)


def test_bash_completes_a_name_through_the_script(operator):
    operator.ok("instance", "create", "shell-1", "--cluster", "lab", *MACHINE)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(operator.home)}
    environment.pop("FEDERATION_BROKER", None)
    script = operator.ok("completion", "bash").stdout
    program = f'federation() {{ {sys.executable} -m federation.cli "$@"; }}; export -f federation\n{script}\n'
    asked = "COMP_WORDS=(federation instance stop shel) COMP_CWORD=3; _federation_completion federation; echo ${COMPREPLY[@]}"
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", program + asked],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=True,
    )
    assert done.stdout.strip() == "shell-1", done.stderr
