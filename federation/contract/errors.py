"""The closed error catalogue: what may go wrong, who is at fault, what is known of the effect, what the caller does next.

Rules (DESIGN §5.3):

1. A driver raises subclasses of :class:`OperationError` only, and only those that its operation declares.
2. The worker turns everything else into ``driver_bug``, whose effect is unknown.
3. A caller programs against ``effect`` and ``next_move``, never against the message.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Fault(enum.StrEnum):
    """Who has to change something."""

    CALLER = "caller"
    BUS = "bus"
    WORKER = "worker"
    HYPERVISOR = "hypervisor"


class Effect(enum.StrEnum):
    """What is known of the effect of an operation that ended with an error."""

    NONE = "none"
    """Nothing is changed on the hypervisor: it was not tried, or what was tried has been undone."""
    FINAL = "final"
    """It was tried, it failed, nothing is left half done; the same request would fail again."""
    RETRYABLE = "retryable"
    """It was tried, it failed, nothing is left half done; the same request may succeed later."""
    UNKNOWN = "unknown"
    """Nobody can say; the instance is parked."""


class OperationError(Exception):
    """An error of the catalogue.

    ``message`` is one sentence for people that names what was wrong; ``detail`` names fields, values and limits.
    Neither may hold a secret.
    """

    code: ClassVar[str] = ""
    fault: ClassVar[Fault]
    effect: ClassVar[Effect]
    next_move: ClassVar[str]

    def __init__(self, message: str, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = {name: str(value) for name, value in detail.items()}


class InvalidRequest(OperationError):
    """The request breaks a rule of the contract or of the driver's extensions."""

    code = "invalid_request"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Correct the field that the message names and send a new operation."


class NotFound(OperationError):
    """The instance or node does not exist on this cluster."""

    code = "not_found"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Check the name or id; list what exists."


class AlreadyExists(OperationError):
    """Something else bears that name or id."""

    code = "already_exists"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Choose another name, or adopt or destroy what is there."


class InvalidState(OperationError):
    """The instance's state does not allow the operation."""

    code = "invalid_state"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Bring the instance into a state that allows it (the message names both)."


class NotSupported(OperationError):
    """The driver, the node or the guest does not have the capability."""

    code = "not_supported"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Use a cluster or node that declares the capability that the message names."


class InsufficientResources(OperationError):
    """The node or cluster lacks memory, processors or storage."""

    code = "insufficient_resources"
    fault = Fault.HYPERVISOR
    effect = Effect.NONE
    next_move = "Ask for less, free resources, or choose another node."


class ImageUnavailable(OperationError):
    """The image, kernel or template could not be read where the request says it is."""

    code = "image_unavailable"
    fault = Fault.CALLER
    effect = Effect.RETRYABLE
    next_move = "Check the URL or name and that the worker may reach it, then try again."


class ImageRejected(OperationError):
    """The image was read and is not what the request says: checksum, format or size differ."""

    code = "image_rejected"
    fault = Fault.CALLER
    effect = Effect.FINAL
    next_move = "Correct checksum, format or size (the message names what was found), or the image."


class PermissionDenied(OperationError):
    """The hypervisor refused the driver's credentials or privileges."""

    code = "permission_denied"
    fault = Fault.HYPERVISOR
    effect = Effect.NONE
    next_move = "Give the driver's account the privilege that the message names."


class HypervisorUnreachable(OperationError):
    """The hypervisor could not be reached, or stopped answering before anything was changed."""

    code = "hypervisor_unreachable"
    fault = Fault.HYPERVISOR
    effect = Effect.RETRYABLE
    next_move = "Bring the hypervisor or the network back, then try again."


class HypervisorRefused(OperationError):
    """The hypervisor carried the request out in part or not at all, and said why; the driver undid what it had done."""

    code = "hypervisor_refused"
    fault = Fault.HYPERVISOR
    effect = Effect.FINAL
    next_move = "Read the hypervisor's words in the message."


class GuestRefused(OperationError):
    """The guest, or the agent in it, was asked and objected."""

    code = "guest_refused"
    fault = Fault.CALLER
    effect = Effect.FINAL
    next_move = "Read the guest's words in the message and change what it objects to."


class BackendUnavailable(OperationError):
    """Storage or a network that the hypervisor needs for it did not answer; the driver undid what it had done."""

    code = "backend_unavailable"
    fault = Fault.HYPERVISOR
    effect = Effect.RETRYABLE
    next_move = "Bring the storage or network that the message names back, then try again."


class Conflict(OperationError):
    """Somebody else changed the instance on the hypervisor at the same time; nothing was overwritten."""

    code = "conflict"
    fault = Fault.HYPERVISOR
    effect = Effect.RETRYABLE
    next_move = "Look at the instance again and send a new operation if it is still wanted."


class TimedOut(OperationError):
    """The hypervisor or the guest did not do it within the time that the request gave."""

    code = "timed_out"
    fault = Fault.HYPERVISOR
    effect = Effect.RETRYABLE
    next_move = "Give more time, or use the hard form of the operation."


class Cancelled(OperationError):
    """The operation was cancelled; the driver undid what it had done."""

    code = "cancelled"
    fault = Fault.CALLER
    effect = Effect.FINAL
    next_move = "Nothing; send a new operation if it is wanted after all."


class DeadlinePassed(OperationError):
    """The deadline passed before the operation started."""

    code = "deadline_passed"
    fault = Fault.CALLER
    effect = Effect.NONE
    next_move = "Send a new operation with a later deadline, or add workers."


class Parked(OperationError):
    """The instance is parked: an earlier operation's outcome is unknown."""

    code = "parked"
    fault = Fault.HYPERVISOR
    effect = Effect.NONE
    next_move = "Look at the instance on the hypervisor, then resolve it: retry, accept or abandon."


class ContractMismatch(OperationError):
    """The worker and the manager do not share a release or a revision that carries this operation."""

    code = "contract_mismatch"
    fault = Fault.WORKER
    effect = Effect.NONE
    next_move = "Upgrade the side whose range the message names as the lower one."


class OutcomeUnknown(OperationError):
    """The driver cannot say whether the hypervisor did it."""

    code = "outcome_unknown"
    fault = Fault.HYPERVISOR
    effect = Effect.UNKNOWN
    next_move = "Look at the instance on the hypervisor, then resolve it: retry, accept or abandon."


class DriverBug(OperationError):
    """The driver raised what its operation does not declare, or returned what it may not."""

    code = "driver_bug"
    fault = Fault.WORKER
    effect = Effect.UNKNOWN
    next_move = "Resolve the instance and report the bug to the driver's author."


class Poison(OperationError):
    """The operation was started as often as allowed and never ended: it takes its worker down, or loses it."""

    code = "poison"
    fault = Fault.WORKER
    effect = Effect.UNKNOWN
    next_move = "Read the workers' logs, then resolve the instance: retry, accept or abandon."


class DeadLettered(OperationError):
    """The broker gave the operation up after too many deliveries."""

    code = "dead_lettered"
    fault = Fault.BUS
    effect = Effect.UNKNOWN
    next_move = "Check broker and workers, then resolve the instance: retry, accept or abandon."


class Overloaded(OperationError):
    """The manager has accepted more than the broker takes, or than the workers finish; it accepts nothing new now."""

    code = "overloaded"
    fault = Fault.BUS
    effect = Effect.NONE
    next_move = "Wait, then send it again; look at the backlog, add workers or see to the broker."


class Unavailable(OperationError):
    """A part that is needed for the answer (manager, store, broker, or any worker of the cluster) did not answer."""

    code = "unavailable"
    fault = Fault.BUS
    effect = Effect.NONE
    next_move = "Bring the part that the message names back, then send it again."


CATALOGUE: dict[str, type[OperationError]] = {
    error.code: error
    for error in (
        InvalidRequest,
        NotFound,
        AlreadyExists,
        InvalidState,
        NotSupported,
        InsufficientResources,
        ImageUnavailable,
        ImageRejected,
        PermissionDenied,
        HypervisorUnreachable,
        HypervisorRefused,
        GuestRefused,
        BackendUnavailable,
        Conflict,
        TimedOut,
        Cancelled,
        DeadlinePassed,
        Parked,
        ContractMismatch,
        OutcomeUnknown,
        DriverBug,
        Poison,
        DeadLettered,
        Overloaded,
        Unavailable,
    )
}
"""Every error by its code."""
