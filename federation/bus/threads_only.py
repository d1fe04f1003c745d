"""oslo.messaging, imported so that it brings no eventlet with it.

oslo.messaging imports oslo.service, which loads its eventlet backend unless told otherwise, and futurist, which loads eventlet
wherever it is installed.  Everything here runs on threads, and eventlet would be more than half of the time that the import
takes, and two of five modules.  A process that has chosen before, by importing oslo.messaging or eventlet itself, is left
as it is; eventlet can be imported as ever afterwards.
"""

from __future__ import annotations

import sys

__all__ = ["RPCDispatcher", "Target", "oslo_messaging"]


def _import_without_eventlet() -> None:
    if "oslo_messaging" in sys.modules or "eventlet" in sys.modules:
        return
    sys.modules["eventlet"] = None  # type: ignore[assignment]  # Python's own mark for: there is no such module
    try:
        from oslo_service import backend  # noqa: PLC0415

        backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)
        import oslo_messaging  # noqa: F401, PLC0415
    finally:
        del sys.modules["eventlet"]


_import_without_eventlet()

import oslo_messaging  # noqa: E402
from oslo_messaging import Target  # noqa: E402
from oslo_messaging.rpc.dispatcher import RPCDispatcher  # noqa: E402
