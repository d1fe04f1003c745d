"""A worker in a process of its own: one driver, operations read from standard input, a line answered for each.

Each line in is {"name", "operation", "attempt", "request"} in JSON, each line out {"result"} or {"error"}.
"""

from __future__ import annotations

import json
import sys

import msgspec

from federation.contract.errors import OperationError
from federation.contract.operations import find
from federation.testing.calls import RecordedCall
from federation.testing.clock import SystemClock
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver


def answer(driver: SimulatedDriver, asked: dict) -> dict:
    request = msgspec.convert(asked["request"], find(asked["name"]).request)
    call = RecordedCall(asked["operation"], attempt=asked["attempt"], clock=SystemClock())
    try:
        return {"result": msgspec.to_builtins(getattr(driver, asked["name"])(call, request))}
    except OperationError as error:
        return {"error": error.code, "message": error.message}


def main() -> None:
    settings = msgspec.convert(json.loads(sys.argv[1]), SimulatedSettings)
    driver = SimulatedDriver.open(settings, "test")
    for line in sys.stdin:
        print(json.dumps(answer(driver, json.loads(line))), flush=True)
    driver.close()


main()
