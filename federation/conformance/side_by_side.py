"""Which cases run in one process when several run side by side: those of one scenario, which share what they find.

A scheduler of its own, because the groups of pytest-xdist 3.8 rename test items, which pytest 9.1 no longer lets it.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadGroupScheduling

from federation.conformance.scenarios import BY_ID

_PARAMETERS = re.compile(r"^(.*)::[^:]*\[([\w-]+)\]$")


class ScenarioScheduling(LoadGroupScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Like ``--dist=loadgroup``, and each scenario of each target is a group."""

    def _split_scope(self, nodeid: str) -> str:
        found = _PARAMETERS.match(nodeid)
        if found is not None and found[2] in BY_ID:
            return f"{found[1]}[{found[2]}]"
        return str(super()._split_scope(nodeid))
