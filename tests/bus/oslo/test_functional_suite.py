"""oslo.messaging's own functional tests, unchanged, against `federation://` and `federation+memory://`.

The suite comes with oslo.messaging.  Two things are adapted, neither of them a test: its fixtures ask for the eventlet
executor, which oslo.messaging removes, so threading takes its place; and it skips by the URL's scheme what only its own
rabbit driver could do, so our URL answers to that name, too.

What of the suite does not apply here:

==================================================  =====================================================================
test                                                why not
==================================================  =====================================================================
test_rabbitmq.RabbitMQFailoverTests                 starts RabbitMQ by pifpaf and looks inside the rabbit driver's connection
                                                    pool; test_failover.py has its scenario for this driver
==================================================  =====================================================================
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import fixtures
import oslo_messaging
import pytest
from oslo_messaging.tests.functional import test_functional as suite
from oslo_messaging.tests.functional import utils
from oslo_messaging.tests.functional.notify import test_logger

LONG_SECONDS = 10
HERE = Path(sys.executable).parent


class AnswersToRabbit(str):
    """A URL that the suite takes for one of its rabbit driver, where it asks what the transport can do."""

    __slots__ = ()

    def startswith(self, prefix, *rest):
        return prefix == "rabbit://" or super().startswith(prefix, *rest)


class ThreadedRpcServer(utils.RpcServerFixture):
    def __init__(self, conf, url, target, **options):
        super().__init__(conf, url, target, **{**options, "executor": "threading"})


class ThreadedNotifications(utils.NotificationFixture):
    def _get_server(self, transport, targets):
        return oslo_messaging.get_notification_listener(transport.transport, targets, [self], "threading")

    def get_events(self, timeout=0.5):
        """The suite's logger tests wait 15 s for an event and then as long for nothing: 2 s of nothing do."""
        if timeout < LONG_SECONDS:
            return super().get_events(timeout)
        return [self.events.get(timeout=timeout), *super().get_events(timeout=2.0)]


class ThreadedBatches(ThreadedNotifications):
    def __init__(self, conf, url, topics, batch_size=5, batch_timeout=2):
        super().__init__(conf, url, topics)
        self.batch_size = batch_size
        self.batch_timeout = batch_timeout

    def _get_server(self, transport, targets):
        return oslo_messaging.get_batch_notification_listener(
            transport.transport,
            targets,
            [self],
            "threading",
            batch_timeout=self.batch_timeout,
            batch_size=self.batch_size,
        )

    debug = utils.BatchNotificationFixture.debug
    audit = utils.BatchNotificationFixture.audit
    info = utils.BatchNotificationFixture.info
    warn = utils.BatchNotificationFixture.warn
    error = utils.BatchNotificationFixture.error
    critical = utils.BatchNotificationFixture.critical


THREADED = {
    "RpcServerFixture": ThreadedRpcServer,
    "NotificationFixture": ThreadedNotifications,
    "BatchNotificationFixture": ThreadedBatches,
}


class OnOurBus:
    """Gives a test class of the suite our URL and threaded servers; mixed in before it."""

    url: str

    def setUp(self, **kwargs):
        for name in ("RPC_TRANSPORT_URL", "NOTIFY_TRANSPORT_URL"):
            self.useFixture(fixtures.EnvironmentVariable(name, self.url))
        self.useFixture(fixtures.EnvironmentVariable("TRANSPORT_DRIVER", "federation"))
        self.useFixture(fixtures.EnvironmentVariable("PATH", f"{HERE}{os.pathsep}{os.environ['PATH']}"))
        for name, replacement in THREADED.items():
            self.useFixture(fixtures.MonkeyPatch(f"{utils.__name__}.{name}", replacement))
        super().setUp(**kwargs)
        self.rpc_url = AnswersToRabbit(self.url)
        self.notify_url = AnswersToRabbit(self.url)


class OverRabbitMQ(OnOurBus):
    @pytest.fixture(autouse=True)
    def _url(self, oslo_rabbitmq_url):
        self.url = oslo_rabbitmq_url


class InMemory(OnOurBus):
    @pytest.fixture(autouse=True)
    def _url(self):
        self.url = f"federation+memory://{uuid.uuid4().hex}"


class TestCallOverRabbitMQ(OverRabbitMQ, suite.CallTestCase):
    pass


class TestCallInMemory(InMemory, suite.CallTestCase):
    pass


class TestCastOverRabbitMQ(OverRabbitMQ, suite.CastTestCase):
    pass


class TestCastInMemory(InMemory, suite.CastTestCase):
    pass


class TestNotifyOverRabbitMQ(OverRabbitMQ, suite.NotifyTestCase):
    pass


class TestNotifyInMemory(InMemory, suite.NotifyTestCase):
    pass


class TestMetricsOverRabbitMQ(OverRabbitMQ, suite.MetricsTestCase):
    pass


class TestMetricsInMemory(InMemory, suite.MetricsTestCase):
    pass


def _logger_tests():
    """The suite multiplies its logger test by scenarios, which pytest does not read: one class for each."""
    for broker in (OverRabbitMQ, InMemory):
        for name, attributes in test_logger.LoggingNotificationHandlerTestCase.scenarios:
            title = "".join(part.capitalize() for part in name.split(","))
            cls = type(
                f"TestLogger{title}{broker.__name__}",
                (broker, test_logger.LoggingNotificationHandlerTestCase),
                {**attributes, "scenarios": [], "__module__": __name__},
            )
            yield cls.__name__, cls


globals().update(_logger_tests())
