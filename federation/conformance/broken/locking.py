"""A driver with a lock of its own."""

from __future__ import annotations

import threading

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.instances import Instance
from federation.testing.simulated import SimulatedDriver


class HoldsALock(SimulatedDriver):
    """Serialises in its process what the broker has ordered already."""

    turn = threading.Lock()

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start, one after the other."""
        with self.turn:
            return super().power_on(call, request)
