"""A worker's end at any moment: runs the driver in a child for each line of JSON, and kills it as soon as a request is sent.

A line has the driver's settings, an operation with its request, the call, and ``kill_at``: the number of the CIM request
that is sent and whose answer nobody hears, 0 for none.  The answer is a line of JSON: whether the child was killed, how many
requests it sent, which of them change something, and what the driver answered.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time

import msgspec

from federation.contract.operations import find
from federation.contract.validation import parse_request
from federation_hyperv.cim import names
from federation_hyperv.driver import HypervDriver
from federation_hyperv.settings import Settings
from federation_hyperv.wsman.transport import Connection


class Call:
    """The worker's call, which always has leave."""

    cluster = "lab"

    def __init__(self, operation: str, attempt: int) -> None:
        self.operation = operation
        self.attempt = attempt
        self.recovering = attempt > 1

    def guard(self) -> None:
        """Leave is given."""

    def progress(self, percent: float | None, stage: str) -> None:
        """Nobody watches."""

    def sleep(self, seconds: float) -> None:
        """Look again soon: the simulated jobs are short."""
        time.sleep(min(seconds, 0.02))

    def remaining(self) -> float | None:
        """As long as it takes."""
        return None


def note_and_kill(kill_at: int) -> list[str]:
    """Note the CIM requests in the answer; end this process when the chosen one has been written to its socket."""
    sent: list[str] = []
    send, hear = Connection.send, http.client.HTTPConnection.getresponse

    def noted(self, action, *given, **named):
        sent.append(action)
        return send(self, action, *given, **named)

    def heard(self, *given, **named):
        if len(sent) >= kill_at > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return hear(self, *given, **named)

    Connection.send, http.client.HTTPConnection.getresponse = noted, heard
    return sent


def run(order: dict) -> dict:
    sent = note_and_kill(order["kill_at"])
    driver = HypervDriver.open(msgspec.convert(order["settings"], Settings), "lab")
    request = parse_request(find(order["operation"]), order["request"])
    answer = getattr(driver, order["operation"])(Call(order["call"], order["attempt"]), request)
    driver.close()
    changing = [number for number, action in enumerate(sent, 1) if action.startswith(names.WMI)]
    return {"requests": len(sent), "changing": changing, "answer": msgspec.to_builtins(answer)}


def in_a_child(order: dict) -> dict:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as told:
            json.dump(run(order), told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as heard:
        text = heard.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed} | (json.loads(text) if text and not killed else {})


for line in sys.stdin:
    print(json.dumps(in_a_child(json.loads(line))), flush=True)
