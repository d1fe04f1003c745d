"""The smoke test of the containers: `python3 tests/containers [--keep]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from parts.state import PartMissingError

    from containers import base_images
    from containers.engine import Engine
    from containers.smoke import Smoke
    from containers.stack import Stack

    parser = argparse.ArgumentParser(prog="tests/containers", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the demonstration and the engine running")
    parser.add_argument("--only", choices=Smoke.STEPS, help="one step, on the demonstration as --keep left it")
    parser.add_argument("--engine", action="store_true", help="only start the engine and print how to speak to it")
    chosen = parser.parse_args()
    began = time.monotonic()

    def say(line: str) -> None:
        """With the time since the start, at once."""
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    engine = Engine()
    try:
        say(engine.start())
        base_images.provide(engine, say)
    except PartMissingError as error:
        print(f"the containers cannot be tested here: {error}", file=sys.stderr)
        sys.exit(1)
    if chosen.engine:
        for name in ("PATH", "DOCKER_HOST", "DOCKER_CONFIG"):
            if name in engine.environment:
                print(f"export {name}='{engine.environment[name]}'")
        sys.exit(0)
    stack = Stack(engine, "federation-test")
    status = 0
    try:
        if chosen.only:
            stack.known_ports()
            Smoke(stack, say).run_only(chosen.only)
        else:
            stack.take_ports(engine.folder)
            stack.down()
            Smoke(stack, say).run()
    except PartMissingError as error:
        say(f"FAILED: {error}")
        for line in stack.describe():
            say(f"  {line}")
        status = 1
    finally:
        if not chosen.keep:
            stack.down()
            engine.stop()
    sys.exit(status)
