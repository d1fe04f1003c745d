"""The tests run on real threads, whatever they import."""

import threading

from eventlet.patcher import is_monkey_patched
from oslo_messaging.tests.functional import utils


def test_oslo_messagings_tests_leave_the_threads_alone():
    assert utils.RpcServerFixture
    assert not is_monkey_patched("thread")
    assert "eventlet" not in threading.get_ident.__module__
