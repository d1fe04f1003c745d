"""The tests run on real threads, whatever they import."""

import subprocess
import sys
import threading

import pytest
from eventlet.patcher import is_monkey_patched
from oslo_messaging.tests.functional import utils


def test_oslo_messagings_tests_leave_the_threads_alone():
    assert utils.RpcServerFixture
    assert not is_monkey_patched("thread")
    assert "eventlet" not in threading.get_ident.__module__


@pytest.mark.parametrize(
    "module",
    [
        "federation.bootstrap.workers",
        "federation.bootstrap.managers",
        "federation.bootstrap.client",
        "federation.bus.rpc",
        "federation.bus.oslo.driver",
        "federation.testing.demo",
    ],
)
def test_a_process_of_ours_has_no_eventlet_and_may_still_import_it(module):
    look = f"import sys, {module}; print('eventlet' in sys.modules, 'oslo_messaging' in sys.modules); import eventlet"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def test_a_process_that_has_chosen_eventlet_keeps_it():
    look = "import warnings; warnings.simplefilter('ignore'); import eventlet, sys, federation.bus.rpc as rpc"
    look += "; from oslo_service import backend; print(backend.get_backend_type().value, sys.modules['eventlet'] is eventlet)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["eventlet", "True"]
