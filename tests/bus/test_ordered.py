"""The ordered ports, on both brokers."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from bus.observing import Settled, eventually
from msgspec.structs import replace

from federation.bus import topology
from federation.bus.envelope_codec import encode_command, encode_result
from federation.bus.errors import TopologyMismatch
from federation.bus.link import Publication, PublishResult
from federation.bus.ordered import (
    AnswerReceiver,
    AnswerSender,
    CommandConsumer,
    CommandPublisher,
    DeadLetterConsumer,
    HeldCommand,
    HeldResult,
    ResultsConsumer,
    ResultSender,
)
from federation.bus.topology import Limits
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Command, Progress, Question, Report

PARTITIONS = 4
WHERE = {"worker": "w1", "partition": 1, "operation": "op", "key": "k"}


def make_command(cluster: str, number: int = 1, partition: int = 1, **more: object) -> Command:
    facts = {
        "operation": f"op-{number}",
        "name": "power_on",
        "revision": 1,
        "release": "1.0",
        "cluster": cluster,
        "epoch": 1,
        "partition": partition,
        "key": f"key-{partition}",
        "sequence": number,
        "round": 1,
        "deadline": None,
        "arguments": {"number": number},
    }
    return Command(**{**facts, **more})


class Worker:
    """A command consumer that records."""

    def __init__(self, link, cluster: str, worker_id: str, *, ack: bool = True, prefetch: int = 16) -> None:
        self.held: list[HeldCommand] = []
        self.losses: list[tuple[str, int | None]] = []
        self._ack = ack
        arguments = link, cluster, 1, PARTITIONS, worker_id, prefetch, self._take, self._lost
        self.consumer = CommandConsumer(*arguments)
        self.consumer.start()

    def _take(self, held: HeldCommand) -> None:
        self.held.append(held)
        if held.command is None:
            self.consumer.reject(held)
        elif self._ack:
            self.consumer.ack(held)

    def _lost(self, reason: str, partition: int | None) -> None:
        self.losses.append((reason, partition))

    def wait_for(self, count: int) -> list[HeldCommand]:
        eventually(lambda: len(self.held) >= count, f"{count} commands, there are {len(self.held)}")
        return self.held


@pytest.fixture
def cluster(link):
    """A cluster of its own with all shared queues."""
    name = f"c{uuid.uuid4().hex[:8]}"
    topology.declare_shared(link)
    topology.declare_cluster(link, name, 1, PARTITIONS)
    yield name
    topology.retire_cluster(link, name, 1, PARTITIONS)


def test_commands_of_a_partition_arrive_in_order_at_one_worker(link, other, cluster):
    workers = [Worker(other, cluster, worker_id) for worker_id in ("w1", "w2")]
    publisher, settled = CommandPublisher(link), Settled()
    for number in range(1, 101):
        for partition in range(PARTITIONS):
            publisher.publish(make_command(cluster, number, partition), settled)
    eventually(lambda: sum(len(worker.held) for worker in workers) == 400, "all arrived")
    for partition in range(PARTITIONS):
        takers = [[h for h in worker.held if h.partition == partition] for worker in workers]
        assert sorted(map(len, takers)) == [0, 100]
        assert [h.command.sequence for h in max(takers, key=len)] == list(range(1, 101))
    assert settled.results == [PublishResult.CONFIRMED] * 400


def test_a_held_command_says_where_it_came_from_and_how_often(link, other, cluster):
    first = Worker(other, cluster, "w1", ack=False)
    command = make_command(cluster, deadline=2.5e9, trace="trace-1")
    CommandPublisher(link).publish(command, Settled())
    assert first.wait_for(1)[0].command == command
    first.consumer.close(10)
    second = Worker(link, cluster, "w2")
    held = second.wait_for(1)[0]
    assert (held.command, held.partition, held.delivery_count, held.error) == (command, 1, 1, None)


def test_a_lost_connection_and_a_lost_partition_are_told_apart(link, other, cluster):
    worker = Worker(other, cluster, "w1", ack=False)
    CommandPublisher(link).publish(make_command(cluster), Settled())
    held = worker.wait_for(1)[0]
    link.delete_queue(topology.command_queue(cluster, 1, 2))
    eventually(lambda: [p for _, p in worker.losses] == [2], "the loss of the partition is told")
    topology.declare_cluster(link, cluster, 1, PARTITIONS)
    other.break_connection()
    eventually(lambda: [p for _, p in worker.losses][-1] is None, "the loss of the connection is told")
    worker.consumer.ack(held)
    again = worker.wait_for(2)[1]
    assert (again.command, again.delivery_count) == (held.command, 1)


def test_a_command_with_a_garbled_body_is_held_with_its_error(link, other, cluster):
    worker = Worker(other, cluster, "w1")
    link.publish(replace(encode_command(make_command(cluster)), body=b"\xc1"), Settled())
    held = worker.wait_for(1)[0]
    assert held.command.operation == "op-1"
    assert "not msgpack" in held.error


def test_a_foreign_message_and_a_misrouted_command_can_be_rejected_and_come_back_as_dead_letters(link, other, cluster):
    letters = []
    consumer = DeadLetterConsumer(link, lambda letter: (letters.append(letter), letter.ack()))
    consumer.start()
    worker = Worker(other, cluster, "w1")
    foreign = Publication(topology.COMMANDS.name, f"{cluster}.1.0", b"hello", {"who": cluster})
    misrouted = replace(encode_command(make_command(cluster)), routing_key=f"{cluster}.1.2")
    for publication in (foreign, misrouted):
        link.publish(publication, Settled())
    worker.wait_for(2)
    assert [held.command for held in worker.held] == [None, None]
    assert any("missing required field" in held.error for held in worker.held)
    assert any(f"stands in federation.{cluster}.e1.p2" in held.error for held in worker.held)
    eventually(lambda: len([each for each in letters if cluster in each.queue]) == 2, "both are dead letters")
    by_queue = {each.queue: each for each in letters}
    assert by_queue[f"federation.{cluster}.e1.p0"].command is None
    assert by_queue[f"federation.{cluster}.e1.p2"].command.operation == "op-1"
    assert {each.reason for each in letters if cluster in each.queue} == {"rejected"}
    consumer.close(10)


def test_a_dead_letter_that_is_not_acknowledged_is_shown_again(link, other, cluster):
    shown = []

    def take(letter) -> None:
        if cluster not in letter.queue:
            letter.ack()
            return
        shown.append(letter)
        if len(shown) == 3:
            letter.ack()

    consumer = DeadLetterConsumer(link, take)
    consumer.start()
    Worker(other, cluster, "w1")
    link.publish(Publication(topology.COMMANDS.name, f"{cluster}.1.0", b"x"), Settled())
    eventually(lambda: len(shown) == 3, "it was shown until it was acknowledged")
    consumer.close(10)
    eventually(lambda: link.queue_depth(topology.DEAD_QUEUE)[0] == 0, "nothing is left")


class Manager:
    """A results consumer that records and acknowledges what is of one cluster, or foreign."""

    def __init__(self, link, manager_id: str, cluster: str) -> None:
        self.held: list[HeldResult] = []
        self._cluster = cluster
        self.consumer = ResultsConsumer(link, manager_id, self._take, lambda reason, queue: None)
        self.consumer.start()

    def _take(self, held: HeldResult) -> None:
        if self._cluster in held.delivery.routing_key:
            self.held.append(held)
        self.consumer.ack(held)


def test_results_of_a_partition_arrive_in_order_at_one_manager_with_the_user_that_sent_them(link, other, cluster):
    managers = [Manager(link, manager_id, cluster) for manager_id in ("m1", "m2")]
    sender, settled = ResultSender(other), Settled()
    sent = []
    for number in range(1, 51):
        for partition in range(PARTITIONS):
            about = {**WHERE, "cluster": cluster, "partition": partition, "operation": f"op-{number}"}
            question = Question(id=f"q{number}", sequence=number, round=1, delivery_count=0, **about)
            report = Report(sequence=number, attempt=1, outcome=Outcome(kind=OutcomeKind.SUCCEEDED), **about)
            sender.ask(question)
            sender.report(report, settled)
            sent += [question, report]
    eventually(lambda: sum(len(manager.held) for manager in managers) == len(sent), "all arrived")
    for partition in range(PARTITIONS):
        takers = [[h.result for h in m.held if h.result.partition == partition] for m in managers]
        assert min(map(len, takers)) == 0
        assert max(takers, key=len) == [each for each in sent if each.partition == partition]
    assert all(held.error is None and held.user_id for manager in managers for held in manager.held)
    eventually(lambda: settled.results == [PublishResult.CONFIRMED] * 200, "all outcomes were confirmed")
    for manager in managers:
        manager.consumer.close(10)


def test_progress_arrives_and_a_forged_result_is_held_with_its_error(link, other, cluster):
    manager = Manager(link, "m1", cluster)
    progress = Progress(attempt=1, percent=50.0, stage="copying", cluster=cluster, **WHERE)
    ResultSender(other).progress(progress)
    forged = replace(
        encode_result(msgspec.structs.replace(progress, cluster="another")), routing_key=f"outcome.{cluster}.1"
    )
    other.publish(forged)
    eventually(lambda: len(manager.held) == 2, "both arrived")
    assert manager.held[0].result == progress
    assert manager.held[1].result is None
    assert "speaks for cluster 'another'" in manager.held[1].error
    manager.consumer.close(10)


def test_an_answer_reaches_its_worker_only_also_after_the_workers_connection_was_lost(link, other, cluster):
    received: dict[str, list[Answer]] = {"w1": [], "w2": []}
    receivers = [AnswerReceiver(other, cluster, f"{cluster}-{w}", received[w].append) for w in received]
    for receiver in receivers:
        receiver.start()
    answer = Answer(question="q", operation="op", key="k", verdict="grant", attempt=1, lease_seconds=6.0)
    sender = AnswerSender(link)
    sender.answer(cluster, f"{cluster}-w1", answer)
    sender.answer(cluster, "nobody", answer)
    eventually(lambda: received["w1"] == [answer], "the answer arrived")
    assert received["w2"] == []
    other.break_connection()
    queue = topology.answers_queue(cluster, f"{cluster}-w1")
    eventually(lambda: other.connected and other.queue_depth(queue) == (0, 1), "the worker listens again")
    sender.answer(cluster, f"{cluster}-w1", answer)
    eventually(lambda: received["w1"] == [answer, answer], "the second answer arrived")
    for receiver in receivers:
        receiver.close(10)
    eventually(lambda: other.queue_depth(queue) is None, "the queue went with the receiver")


def test_other_limits_for_existing_queues_are_a_mismatch(link, cluster):
    with pytest.raises(TopologyMismatch, match="x-max-length"):
        topology.declare_cluster(link, cluster, 1, PARTITIONS, Limits(commands=7))


def test_a_retired_cluster_leaves_no_queue_behind(link, cluster):
    topology.retire_cluster(link, cluster, 1, PARTITIONS)
    assert link.queue_depth(topology.command_queue(cluster, 1, 0)) is None
    link.break_connection()
    eventually(lambda: link.connected, "the link stands again")
    assert link.queue_depth(topology.command_queue(cluster, 1, 0)) is None


@pytest.mark.parametrize("name", ["", "a*b", "a#", "-a", "a b", "ü", "a" * 129])
def test_a_name_that_could_be_a_pattern_or_too_long_is_refused(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        topology.cluster_items(name, 1, 1)


def test_a_cluster_name_with_dots_is_read_back_from_its_routing_key():
    assert topology.read_result_key(topology.result_key("east.1", 17)) == ("east.1", 17)
