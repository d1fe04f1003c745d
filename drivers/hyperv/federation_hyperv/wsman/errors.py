"""What may go wrong between the driver and a host; the driver's fault table turns these into the catalogue's codes."""

from __future__ import annotations

from federation_hyperv.cim.codes import JobState, Meaning, job_meaning, return_meaning


class TransportError(Exception):
    """The root of this package's errors."""


class HostUnreachable(TransportError):
    """The request was never sent: the host does not answer, or TLS failed.  Nothing happened; trying again is safe."""


class LostAnswer(TransportError):
    """The request was sent and no answer came: whether it took effect must be looked up on the host."""


class AccessDenied(TransportError):
    """The host refused the account; give it the privilege that the message names."""


class WsmanFault(TransportError):
    """The host answered with a fault; ``code`` is WinRM's or WMI's number, None when it gave none."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class InstanceNotFound(WsmanFault):
    """What the request names is not on the host."""


class CallFailed(TransportError):
    """A method returned a code other than 0 and 4096; ``meaning`` is what the code says."""

    def __init__(self, method: str, code: int) -> None:
        self.method = method
        self.code = code
        self.meaning: Meaning = return_meaning(code)
        super().__init__(f"{method} returned {code} ({self.meaning})")


class JobFailed(TransportError):
    """A job ended otherwise than completed; its ErrorCode and ErrorDescription are kept."""

    def __init__(self, name: str, state: JobState, code: int, description: str) -> None:
        self.state = state
        self.code = code
        self.description = description
        self.meaning: Meaning = job_meaning(code)
        super().__init__(f"{name} ended {state.name.lower()} with error {code}: {description}")
