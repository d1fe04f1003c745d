"""The oslo.messaging transport driver: ``federation://`` and ``federation+memory://``.

``driver`` is what oslo.messaging loads; it sends with ``sending`` and listens with ``rpc_listener`` and
``notification_listener``.  ``routes`` holds every name on the broker, ``body`` the form on the wire, ``options`` what can be
set, ``key_order`` the rule by which messages of one ordering key wait for one another.  docs/reference/transport.md
describes all of it for users.
"""

# First of all: the modules of this package import oslo.messaging by its own name.
import federation.bus.threads_only  # noqa: F401
