"""Every case, for a driver's own test module: ``from federation.conformance.suite import *``.

The module then overrides the fixture ``conformance_target`` (session scope, a
:class:`federation.conformance.target.Target`), and ``conformance_observer`` where it has eyes of its own.
"""

from federation.conformance.cases.test_concurrency import *  # noqa: F403 (that is the point)
from federation.conformance.cases.test_description import *  # noqa: F403
from federation.conformance.cases.test_devices import *  # noqa: F403
from federation.conformance.cases.test_errors import *  # noqa: F403
from federation.conformance.cases.test_operations import *  # noqa: F403
from federation.conformance.cases.test_queries import *  # noqa: F403
from federation.conformance.cases.test_refusals import *  # noqa: F403
from federation.conformance.cases.test_releases import *  # noqa: F403
from federation.conformance.cases.test_wire import *  # noqa: F403
