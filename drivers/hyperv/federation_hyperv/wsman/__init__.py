"""WS-Management to one Hyper-V host: typed queries and calls over pypsrp's transport."""

from federation_hyperv.wsman.errors import (
    AccessDenied,
    CallFailed,
    HostUnreachable,
    InstanceNotFound,
    JobFailed,
    LostAnswer,
    TransportError,
    WsmanFault,
)
from federation_hyperv.wsman.host import Host, Identity
from federation_hyperv.wsman.jobs import JobReport, JobStillRunning, follow
from federation_hyperv.wsman.login import Login

__all__ = [
    "AccessDenied",
    "CallFailed",
    "Host",
    "HostUnreachable",
    "Identity",
    "InstanceNotFound",
    "JobFailed",
    "JobReport",
    "JobStillRunning",
    "Login",
    "LostAnswer",
    "TransportError",
    "WsmanFault",
    "follow",
]
