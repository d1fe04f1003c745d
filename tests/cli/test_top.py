"""`federation top`: what an installation does now, on a real terminal, for a script, and while the manager is away."""

from __future__ import annotations

import itertools
import re

import pexpect
import pytest
import yaml
from cli.conftest import MACHINE, terminal
from hypothesis import given
from hypothesis import strategies as st

from federation.cli.top_snapshot import Snapshot, rate
from federation.cli.top_view import rooms


@pytest.fixture
def busy(operator):
    """One operation waits for a worker that never comes, and one has failed."""
    name = f"waits-{next(NUMBERS)}"
    waits = operator.json("instance", "create", name, "--cluster", "idle", "--no-wait", *MACHINE)
    corrupt = [word.replace("http:", "corrupt:") for word in MACHINE]
    assert operator.run("instance", "create", f"bad-{name}", "--cluster", "lab", *corrupt).exit_code == 1
    yield operator
    operator.ok("operation", "cancel", waits["id"])
    operator.ok("instance", "delete", f"bad-{name}")


NUMBERS = itertools.count()


def test_a_script_gets_one_look_as_data(busy):
    seen = busy.json("top", "--once")
    clusters = {each["cluster"]: each for each in seen["clusters"]}
    assert clusters["idle"]["waiting"] == 1
    assert clusters["idle"]["backlog_seconds"] is None
    assert clusters["lab"]["workers"] == {"admitted": 1}
    assert clusters["idle"]["ended_each_second"] is None
    assert {worker["id"] for worker in seen["workers"]} == {"lab-1", "prod-1"}
    assert seen["failures"][0]["outcome"]["code"] == "image_rejected"
    assert [p["waiting"] for p in clusters["idle"]["partitions"]] == [1]
    of_lab = yaml.safe_load(busy.ok("top", "--cluster", "lab", "-o", "yaml").stdout)
    assert [each["cluster"] for each in of_lab["clusters"]] == ["lab"]


def test_where_nobody_looks_at_a_terminal_it_is_one_look_without_colours(busy):
    shown = busy.ok("top").stdout
    assert "\x1b" not in shown
    assert re.search(r"^idle +simulated .* no worker ", shown, re.MULTILINE)
    assert "failed last (" in shown
    assert "lab-1" in shown


def test_on_a_terminal_it_goes_on_until_q_and_leaves_the_screen_as_it_was(busy):
    screen = terminal(busy, "top", "--interval", "0.5")
    screen.expect_exact("\x1b[?1049h")  # the other screen
    screen.expect("no worker")
    screen.expect(r"ENDED/S[\s\S]*ENDED/S")  # a second look
    busy.ok("instance", "create", f"seen-{next(NUMBERS)}", "--cluster", "idle", "--no-wait", *MACHINE)
    screen.expect(r"idle +simulated[^\r\n]* 2 +")  # what waits now
    screen.send("x")  # a key that means nothing
    screen.expect("federation top")
    screen.send("q")
    screen.expect_exact("\x1b[?1049l")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    for waiting in busy.json("operation", "list", "--state", "queued")[:-1]:
        busy.ok("operation", "cancel", waiting["id"])


def test_ctrl_c_ends_it_cleanly_on_a_small_screen(busy):
    screen = terminal(busy, "top", rows=8)
    screen.expect("federation top")
    screen.expect("CLUSTER")
    screen.sendintr()
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    assert "Traceback" not in screen.before


def test_while_the_manager_is_away_it_says_so_and_keeps_what_it_saw(person, manager, proxy):
    person.log_in(proxy.address, manager.token("reader")[0])
    screen = terminal(person, "--timeout", "1", "top", "--interval", "0.5")
    screen.expect("lab-1")
    proxy.end()
    screen.expect("old: http://127.0.0.1:[0-9]+ cannot be reached")
    screen.expect("lab-1")
    screen.send("q")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0


def test_a_token_that_is_revoked_meanwhile_ends_it(person, manager):
    token, identity = manager.token("reader")
    person.log_in(manager.address, token)
    screen = terminal(person, "top", "--interval", "0.5")
    screen.expect("lab-1")
    manager.door("revoke_token", token=identity)
    screen.expect("unauthenticated")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 3


def test_progress_of_an_operation_is_drawn_on_a_terminal_and_wiped_in_the_end(operator):
    screen = terminal(operator, "instance", "create", f"drawn-{next(NUMBERS)}", "--cluster", "lab", *MACHINE)
    screen.expect(r"create (queued|running)")
    screen.expect("state +.*succeeded")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0


def snapshot(clock, **counts):
    return Snapshot(taken_at=0.0, clock=clock, figures=[], counts={"lab": counts}, workers=[], running=[], failures=[])


def test_a_rate_is_what_ended_between_two_looks():
    before, now = snapshot(10.0, succeeded=5, queued=9), snapshot(12.0, succeeded=8, failed=1, queued=1)
    assert rate(before, now, "lab") == 2.0
    assert rate(None, now, "lab") is None
    assert rate(now, snapshot(14.0, succeeded=1), "lab") == 0.0  # the store forgot some
    assert rate(before, now, "elsewhere") == 0.0


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 120))
def test_tables_are_cut_to_the_screen_and_never_lengthened(rows, height):
    shown = rooms(rows, height)
    assert all(least <= there for least, there in zip(shown, rows, strict=True))
    assert all(there == 0 or least > 0 for least, there in zip(shown, rows, strict=True))
    used = sum(shown) + 3 * sum(1 for count in rows if count)
    assert used <= height or max(shown) <= 2
    assert rooms(rows, None) == rows
