"""A load of operations on some machines, and the check that nothing of it is lost, doubled or out of order."""

import random
import threading
import time

from acceptance.estate import life

from federation.contract.errors import Overloaded, Unavailable


class Load:
    """Submits operations from a thread of its own; waits and tries again while nothing is accepted."""

    def __init__(self, estate, instances):
        self._estate = estate
        self._lives = {instance: life(100_000, random.Random(instance)) for instance in instances}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = []
        self.refused = 0
        self.error = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join(90)
        assert self.error is None, self.error

    def _run(self):
        try:
            for number in range(1_000_000):
                for instance, moves in self._lives.items():
                    name, arguments = next(moves)
                    told = {"instance": instance, "arguments": arguments, "idempotency_key": f"{instance} {number}"}
                    self._submit(name, told)
                    if self._stopped.is_set():
                        return
                time.sleep(0.05)
        except Exception as error:  # noqa: BLE001  # told by __exit__
            self.error = error

    def _submit(self, name, told):
        deadline = time.monotonic() + 90
        while True:
            try:
                self.accepted.append(self._estate.ask("submit", name=name, **told)["id"])
            except (Overloaded, Unavailable) as error:
                self.refused += isinstance(error, Overloaded)
                if self._stopped.is_set():
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.05, 0.2))
            else:
                return

    def wait_for(self, count):
        goal = len(self.accepted) + count
        self._estate.until(lambda: self.error or len(self.accepted) >= goal, 90)


def nothing_is_lost(estate, load, seconds):
    counts = estate.settle_all(seconds)
    assert set(counts) - {"parked"} == {"succeeded"}, counts
    assert counts.get("parked", 0) == 0
    history = estate.history()
    assert set(load.accepted) <= {accepted.operation for accepted in history.accepted}
    report = estate.judge()
    assert report.clean, report.to_text()
