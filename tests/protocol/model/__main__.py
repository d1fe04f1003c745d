"""Explore further than the tests do: from the folder `tests`, `python -m protocol.model --faults 3 --kinds flap pause`.

Two faults of every kind take a minute; three of every kind more memory than most machines have, three of four kinds three
minutes and two gigabytes.
"""

from __future__ import annotations

import argparse
import sys

from .events import Rules
from .explore import Bounds, explore
from .faults import FAULTS


def main() -> int:
    """Explore, print what was found, and say by the exit code whether every claim holds."""
    parser = argparse.ArgumentParser(prog="python -m protocol.model", description=__doc__)
    parser.add_argument("--faults", type=int, default=2, help="how many may happen in one history")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=FAULTS, metavar="KIND", help=", ".join(FAULTS))
    parser.add_argument("--steps", nargs="+", type=int, default=[2, 1], help="changing calls of each operation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--elsewhere", action="store_true", help="another manager handles the results")
    parser.add_argument("--resolve", action="store_true", help="an operator resolves parked keys and tries again")
    parser.add_argument("--states", type=int, default=10_000_000, help="give up beyond this many")
    given = parser.parse_args()
    retry = bool(given.resolve)
    rules = Rules(frozenset(given.kinds), resolve=retry, retry=retry, elsewhere=given.elsewhere)
    steps = (*given.steps, 1) if retry else tuple(given.steps)
    bounds = Bounds(given.faults, steps, operations=len(given.steps), workers=given.workers, states=given.states)
    explored = explore(rules=rules, bounds=bounds)
    print(explored)
    print(f"rows of the answer table that answered: {sorted(explored.rows)}")
    return 1 if explored.violation is not None or explored.stuck else 0


if __name__ == "__main__":
    sys.exit(main())
