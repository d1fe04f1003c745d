"""Whole workers on a whole bus: our brokers, the shipped simulated hypervisor, and a scripted manager with the real table."""

import threading
import time

import msgspec
import pytest
from worker.facts import Facts
from worker.tiny_driver import eventually, key

from federation.bootstrap.topics import ADMISSION_TOPIC, query_topic
from federation.bootstrap.workers import make_worker
from federation.bus import topology
from federation.bus.connect import open_link
from federation.bus.ordered import AnswerSender, CommandPublisher, ResultsConsumer
from federation.bus.rpc import Rpc
from federation.contract.outcomes import OutcomeKind
from federation.protocol.admission import HeartbeatAnswer
from federation.protocol.envelope import Question, Report
from federation.protocol.lease import LeaseTerms
from federation.protocol.queries import QueryReply
from federation.testing.faults import Action, Calls, Fault, FaultControl
from federation.testing.history import Accepted, History, Settled, check
from federation.testing.hypervisor.log import read_log
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver
from federation.worker.errors import ExitCode
from federation.worker.settings import WorkerSettings

TERMS = LeaseTerms(0.6, 0.15)
SPEC = {
    "flavour": {"vcpus": 1, "memory_bytes": 1 << 28},
    "boot": {
        "kind": "kernel", "kernel_url": "https://k/vmlinuz", "kernel_checksum": "sha256:" + "0" * 64,
        "initrd_url": "https://k/initrd", "initrd_checksum": "sha256:" + "0" * 64,
    },
}  # fmt: skip


class Manager(Facts):
    """Publishes commands, answers questions, takes outcomes; one thread (the link's) decides."""

    def __init__(self, url):
        super().__init__(TERMS, partitions=4)
        self.link = open_link(url, "scripted manager")
        self.link.start(30)
        topology.declare_shared(self.link)
        topology.declare_cluster(self.link, "c", self.epoch, self.partitions)
        self.accepted = []
        self._lock = threading.Lock()
        self._commands, self._answers = CommandPublisher(self.link), AnswerSender(self.link)
        self._results = ResultsConsumer(self.link, "m1", self._take, lambda _reason, _queue: None)
        self._results.start()
        self.rpc = Rpc(url)
        self.rpc.serve(ADMISSION_TOPIC, "m1", self._door, threads=2)

    def submit(self, name, number, **arguments):
        with self._lock:
            command = self.accept(name, number, arguments={"instance": key(number)} | arguments)
        self.accepted.append(command)
        self._commands.publish(command, lambda _result: None)
        return command.operation

    def create(self, number):
        return self.submit("create", number, spec=SPEC | {"name": f"vm-{number}", "node": "node-1"})

    def _take(self, held):
        with self._lock:
            match held.result:
                case Question() as question:
                    self._answers.answer("c", question.worker, self.answer(question))
                case Report() as report:
                    self.apply(report)
        self._results.ack(held)

    def _door(self, method, arguments):
        if method == "admit":
            value = self.admission(arguments["worker"], heartbeat_seconds=0.5)
        elif method == "heartbeat":
            value = HeartbeatAnswer(known=True, epoch=self.epoch)
        else:
            value = None
        return msgspec.to_builtins(QueryReply(result={"value": value}))

    def history(self, state_directory):
        log = read_log(state_directory)
        accepted = [
            Accepted(
                operation=c.operation, cluster="c", key=c.key, sequence=c.sequence, name=c.name, arguments=c.arguments
            )
            for c in self.accepted
        ]
        settled = [
            Settled(operation=o, kind=outcome.kind, code=outcome.code, attempts=self.operations[o].attempt)
            for o, outcome in self.outcomes.items()
        ]
        return check(
            History(
                accepted=tuple(accepted),
                settled=tuple(settled),
                effects=log.effects,
                executions=log.executions,
                finals=log.finals,
            )
        )

    def succeed(self, *operations, seconds=60):
        outcomes = self.wait(*operations, seconds=seconds)
        assert not [outcome for outcome in outcomes if outcome.kind is not OutcomeKind.SUCCEEDED]

    def close(self):
        self._results.close(5)
        self.rpc.close()
        topology.retire_cluster(self.link, "c", self.epoch, self.partitions)
        self.link.close(5)


class Site:
    """One cluster: a broker, a manager, a hypervisor, any number of workers."""

    def __init__(self, url, folder, broker=None, vhost=None):
        self.url = url
        self.broker, self.vhost = broker, vhost
        self.folder = folder / "hypervisor"
        self.manager = Manager(url)
        self.faults = None
        self._running = []

    def worker(self, name, **settings):
        fields = {"drain_timeout": 20.0, "close_timeout": 5.0, "query_timeout": 5.0} | settings
        driver = SimulatedSettings(state_directory=str(self.folder))
        made = make_worker(self.url, SimulatedDriver, driver, WorkerSettings(worker=name, cluster="c", **fields))
        running = Running(made)
        self._running.append(running)
        return running

    def cut(self):
        """Every connection of the worker goes, as when a network fails."""
        for running in self._running:
            if self.broker is None:
                running.made.link.break_connection()
        if self.broker is not None:
            self.broker.ctl("close_all_connections", "--vhost", self.vhost, "cut by a test")

    def all_consume(self):
        eventually(lambda: all(running.made.worker.consuming for running in self._running), "all consume", 30)

    def fault(self, **fields):
        self.faults = FaultControl(str(self.folder))
        return self.faults.plant(Fault(**fields))

    def close(self):
        for running in self._running:
            running.made.worker.stop()
            running.ended()
        if self.faults is not None:
            self.faults.close()
        self.manager.close()


class Running:
    """A started worker and the thread that ends it."""

    def __init__(self, made):
        self.made = made
        self.code = None
        made.start()
        self._thread = threading.Thread(target=self._finish, daemon=True)
        self._thread.start()

    def _finish(self):
        self.code = self.made.finish()

    def ended(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.code

    def delivered(self):
        return self.made.worker.counters.snapshot()["events"].get("delivered", 0)


@pytest.fixture(scope="module")
def vhost(rabbitmq):
    """(broker, name, URL) of a virtual host of this module's own."""
    name = f"worker-{time.time_ns()}"
    url = rabbitmq.add_vhost(name).replace("amqp://", "federation://")
    yield rabbitmq, name, url
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture
def memory_site(tmp_path):
    made = Site(f"federation+memory://{tmp_path.name}", tmp_path)
    yield made
    made.close()


@pytest.fixture
def rabbitmq_site(vhost, tmp_path):
    broker, name, url = vhost
    made = Site(url, tmp_path, broker, name)
    yield made
    made.close()


@pytest.fixture(params=["memory_site", pytest.param("rabbitmq_site", marks=pytest.mark.rabbitmq)])
def site(request):
    return request.getfixturevalue(request.param)


def operate(manager, numbers):
    """What a person does with some instances; each instance's operations are sent without waiting."""
    operations = [manager.create(number) for number in numbers]
    for name in ("pause", "unpause", "power_off", "power_on", "reboot"):
        operations += [manager.submit(name, number) for number in numbers]
    return operations


def test_two_workers_share_a_cluster_and_every_operation_takes_effect_once_and_in_order(site):
    workers = [site.worker(name) for name in ("w1", "w2")]
    site.all_consume()
    operations = operate(site.manager, range(1, 13))
    site.manager.succeed(*operations)
    assert all(worker.delivered() for worker in workers), "both had a share"
    report = site.manager.history(site.folder)
    assert report.clean, report.to_text()
    assert {operation.attempt for operation in site.manager.operations.values()} == {1}


def test_a_worker_that_drains_under_load_costs_no_operation_and_no_second_attempt(site):
    first = site.worker("w1")
    operations = operate(site.manager, range(1, 9))
    eventually(lambda: len(site.manager.outcomes) >= 5, "some outcomes", 30)
    site.worker("w2")
    site.all_consume()
    first.made.worker.drain()
    assert first.ended() is ExitCode.STOPPED
    operations += [site.manager.submit("power_off", number) for number in range(1, 9)]
    site.manager.succeed(*operations)
    report = site.manager.history(site.folder)
    assert report.clean, report.to_text()


def test_an_operation_whose_worker_loses_its_connection_is_recovered_and_its_effects_are_seen_once(site):
    site.worker("w1")
    site.manager.succeed(site.manager.create(1))
    hang = site.fault(action=Action.HANG, calls=Calls.READS, operation="power_off", attempt=1)
    operation = site.manager.submit("power_off", 1)
    site.faults.wait_until_fired(hang)
    site.cut()
    eventually(lambda: site.manager.operations[operation].attempt == 2, "the second attempt", 30)
    site.manager.succeed(operation)
    site.faults.release(hang)
    report = site.manager.history(site.folder)
    assert report.clean, report.to_text()


def test_a_killed_call_does_not_hold_up_other_instances(site):
    site.worker("w1", max_operations=4)
    site.manager.succeed(*(site.manager.create(number) for number in (1, 2, 3)))
    hang = site.fault(action=Action.HANG, calls=Calls.READS, instance=key(1))
    held = site.manager.submit("power_off", 1)
    site.faults.wait_until_fired(hang)
    site.manager.succeed(site.manager.submit("power_off", 2), site.manager.submit("power_off", 3))
    assert held not in site.manager.outcomes
    site.faults.release(hang)
    site.manager.succeed(held)


def test_the_query_lane_answers_over_the_bus(site):
    site.worker("w1")
    site.manager.succeed(site.manager.create(1))
    request = {"name": "get_instance", "revision": 1, "arguments": {"instance": key(1)}}
    reply = site.manager.rpc.call(query_topic("c"), "query", request, 10.0)
    assert reply["result"]["power_state"] == "running"
    refused = site.manager.rpc.call(query_topic("c"), "query", request | {"name": "destroy"}, 10.0)
    assert refused["error"]["code"] == "contract_mismatch"
