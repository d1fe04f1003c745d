"""What an operation made is taken back when it fails in a way that leaves no doubt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from federation.contract.errors import HypervisorUnreachable, OperationError, OutcomeUnknown
from federation_hyperv.attempt import Attempt


@contextlib.contextmanager
def undone_on_error(attempt: Attempt, undo: Callable[[OperationError], None]) -> Iterator[None]:
    """Run ``undo`` with the error when the block fails; the error goes on.

    Nothing is undone when the host was lost or the outcome is unknown: the operation is taken up again or looked at.
    Revoked passes through and undoes nothing.  When undoing fails as well, the outcome is unknown.
    """
    try:
        yield
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        if attempt.changes or attempt.recovering:
            _undo(attempt, undo, error)
        raise


def _undo(attempt: Attempt, undo: Callable[[OperationError], None], cause: OperationError) -> None:
    attempt.progress(None, "undoing")
    for last in (False, True):
        try:
            undo(cause)
        except OperationError as error:
            if error is attempt.interruption and not last:
                continue  # the call says it once, and undoing is the answer to it
            raise OutcomeUnknown(
                f"{cause.message}; and undoing what was made failed: {error.message}", cause=cause.code
            ) from error
        else:
            return
