"""A driver that does what a test says, and small things that all worker tests use."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from federation.contract.capabilities import Capabilities, Capability
from federation.contract.instances import Instance, PowerState
from federation.contract.nodes import Description
from federation.contract.operations import DECLARED, find
from federation.worker.drivers import OpenDriver, served_by
from federation.worker.redaction import Redactor

INSTANCE = "11111111-1111-4111-8111-{:012d}"


def key(number: int) -> str:
    return INSTANCE.format(number)


def eventually(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Watch a condition until it holds; fails after a deadline."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"within {seconds} s not seen: {what}")
        time.sleep(0.002)


def an_instance(instance: str) -> Instance:
    return Instance(id=instance, name="vm", node="n1", power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1 << 28)


class TinyDriver:
    """Does, for every operation, what the test's ``act(call, request)`` does; returns a fitting result unless it does."""

    def __init__(self, act: Callable[..., object] = lambda _call, _request: None) -> None:
        self.act = act
        self.closed = False
        for operation in DECLARED:
            setattr(self, operation.name, self._method(operation.name))

    def _method(self, name: str) -> Callable[..., object]:
        def method(call, request):
            result = self.act(call, request)
            if result is not None:
                return result
            result = find(name).result
            return an_instance(getattr(request, "instance", key(0))) if result is Instance else result()

        return method

    def description(self) -> Description:
        return Description(
            driver="tiny",
            driver_version="1.2.3",
            releases=("1.0", "1.0"),
            capabilities=Capabilities(flags=frozenset(Capability)),
        )

    def close(self) -> None:
        self.closed = True


def opened(driver: TinyDriver, secrets: tuple[str, ...] = ()) -> OpenDriver:
    description = driver.description()
    return OpenDriver(driver, served_by(description), description, Redactor(secrets))


class Acts:
    """A driver's body that records who ran when, and can be held at a gate by key."""

    def __init__(self):
        self.began = []
        self.ended = []
        self.changes = []
        self.gates = defaultdict(threading.Event)
        self.closed_gates = set()
        self.together = 0
        self.most_together = 0
        self._lock = threading.Lock()

    def __call__(self, call, request):
        with self._lock:
            self.began.append((call.operation, call.attempt))
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        try:
            if call.operation in self.closed_gates:
                self.gates[call.operation].wait(30)
            call.guard()
            self.changes.append((call.operation, call.attempt))
        finally:
            with self._lock:
                self.together -= 1
                self.ended.append((call.operation, call.attempt))
