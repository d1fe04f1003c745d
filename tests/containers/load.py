"""Machines that are paused and resumed without end, while something is killed; every operation is remembered."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from parts.state import PartMissingError

if TYPE_CHECKING:
    from containers.http_client import Managers

VERBS = ("pause", "unpause")


class Load:
    """One machine's endless work: the next operation is asked for as soon as the one before is accepted, up to `ahead`."""

    def __init__(self, managers: Managers, instance: str, ahead: int = 3) -> None:
        """Work on this machine, which runs now."""
        self._managers = managers
        self._instance = instance
        self._ahead = ahead
        self._stopped = threading.Event()
        self.operations: list[str] = []
        self.trouble: list[str] = []
        self._thread = threading.Thread(target=self._work, name=f"load {instance}", daemon=True)

    def start(self) -> Load:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask for no more; what was accepted is left to finish."""
        self._stopped.set()
        self._thread.join(300)

    def outcomes(self) -> Counter[str]:
        """How all that was accepted ended; what has no outcome within a minute counts as lost."""
        found: Counter[str] = Counter()
        for operation in self.operations:
            try:
                found[self._managers.settled(operation, 60)["state"]] += 1
            except PartMissingError:
                found["lost"] += 1
        return found

    def records(self) -> list[dict[str, Any]]:
        """All operations as the manager has them."""
        return [self._managers.settled(operation, 60) for operation in self.operations]

    def _work(self) -> None:
        waiting: list[str] = []
        while not self._stopped.is_set():
            verb = VERBS[len(self.operations) % len(VERBS)]
            try:
                operation = self._managers.ask(f"/v1/instances/{self._instance}/{verb}", {})["id"]
                self.operations.append(operation)
                waiting.append(operation)
                if len(waiting) >= self._ahead:
                    self._managers.settled(waiting.pop(0))
            except PartMissingError as error:
                self.trouble.append(str(error))
                return
