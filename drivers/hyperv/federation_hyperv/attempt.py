"""One execution of an ordered operation, as the driver's parts see it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from federation.contract.call import Call
from federation.contract.errors import OperationError


class Attempt:
    """The worker's call, and what the driver has done with it so far.

    ``changes`` counts the changing calls that were sent; ``recovering`` is true when this operation may have acted
    before: in an earlier attempt, or before a connection was lost in this one.  ``interruption`` is what the call has
    raised to end the operation (cancelled, or its deadline has passed); the call raises it once, so that what was done
    can be undone behind further guards.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.operation = call.operation
        self.number = call.attempt
        self.recovering = call.recovering
        self.changes = 0
        self.interruption: OperationError | None = None

    def guard(self) -> None:
        """Ask for leave to make one change, and count it; raises as the call's guard does."""
        with self._noting():
            self._call.guard()
        self.changes += 1

    def progress(self, percent: float | None, stage: str) -> None:
        """Say how far the operation has come."""
        self._call.progress(percent, stage)

    def sleep(self, seconds: float) -> None:
        """Wait between two looks at the hypervisor; raises as guard does."""
        with self._noting():
            self._call.sleep(seconds)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OperationError as error:
            self.interruption = error
            raise
