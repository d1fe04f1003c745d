"""What strangers put into our queues is refused with a clear error or dead-lettered, once, and the real work goes on."""

import dataclasses
import re
import signal
import uuid

import msgpack
import pytest
from acceptance.conftest import make_estates
from acceptance.estate import CLUSTER
from faults.hostile import Stranger, body

from federation.testing.faults import Action, Fault, FaultControl
from federation.testing.history import check

PARTITIONS = 4
MIB = 1 << 20
PAUSE = body("pause", {"instance": "00000000-0000-0000-0000-000000000000"})
WORKERS = ("w1", "w2")


class Lab:
    """An installation with one running machine, and a stranger who reaches its partition."""

    def __init__(self, estate):
        self.estate = estate
        self.stranger = Stranger(estate.broker, CLUSTER, PARTITIONS)
        (self.instance,) = estate.make(1, prefix=f"victim-{uuid.uuid4().hex[:6]}")
        self.partition = self.stranger.partition(self.instance)
        self.last = estate.ask("operations", instance=self.instance)[0]

    def logs(self):
        return "".join(self.estate.log(name) for name in ("manager", *WORKERS))

    def told(self, *patterns):
        """Wait until one line of a log matches each of these."""
        for pattern in patterns:
            self.estate.until(lambda pattern=pattern: re.search(pattern, self.logs()), 30)

    def goes_on(self):
        """Everybody lives, real work passes behind the hostile message, nothing stays behind, no history is wrong."""
        for name in ("pause", "unpause"):
            done = self.estate.settle(self.estate.change(name, self.instance))
            assert (done["state"], done["attempt"]) == ("succeeded", 1), done
        assert {name: self.estate.processes[name].poll() for name in ("manager", *WORKERS)} == dict.fromkeys(
            ("manager", *WORKERS)
        )
        assert "Traceback" not in self.logs()
        for queue in (f"federation.{CLUSTER}.e1.p{self.partition}", "federation.dead"):
            self.estate.until(lambda queue=queue: self.stranger.depth(queue) == 0, 20)
        self.judge()

    def judge(self):
        """What the history checker says of this machine alone: the others are other tests' business."""
        history = self.estate.history()
        accepted = tuple(a for a in history.accepted if a.key == self.instance)
        mine = {a.operation for a in accepted}
        report = check(
            dataclasses.replace(
                history,
                accepted=accepted,
                settled=tuple(s for s in history.settled if s.operation in mine),
                effects=tuple(e for e in history.effects if e.key == self.instance),
                executions=tuple(e for e in history.executions if e.key == self.instance),
                finals=tuple(f for f in history.finals if f.key == self.instance),
            )
        )
        assert report.counts.accepted == len(mine) > 0
        assert report.clean, report.to_text()


@pytest.fixture(scope="module")
def installation(rabbitmq, tmp_path_factory):
    made, make = make_estates(rabbitmq, tmp_path_factory)
    estate = make()
    estate.start(*WORKERS, partitions=PARTITIONS)
    yield estate
    for one in made:
        one.end()


@pytest.fixture
def lab(installation):
    return Lab(installation)


def once(lab, text):
    """It was told, and is not told again while real work passes: nothing goes round."""
    before = len(re.findall(text, lab.logs()))
    lab.goes_on()
    assert len(re.findall(text, lab.logs())) == before


# Command partitions


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"round": -1}, "federation-round is -1, below 1"),
        ({"sequence": "three"}, r"Expected `int`, got `str`"),
        ({"sequence": 0}, "federation-sequence is 0, below 1"),
        ({"operation": None}, "missing required field `operation`"),
        ({"operation": 7}, r"Expected `str`, got `int`"),
        ({"key": [1, {"a": 2}]}, r"Expected `str`, got `array`"),
        ({"revision": 0}, "federation-revision is 0, below 1"),
        ({"cluster": "elsewhere"}, "a command for cluster 'elsewhere'"),
        ({"epoch": 9}, "epoch 9"),
        ({"partition": 3000}, "partition 3000"),
        ({"deadline": "soon"}, r"Expected `float \| null`, got `str`"),
    ],
    ids=str,
)
def test_a_command_with_forged_headers_is_dead_lettered_once(lab, changed, why):
    name = f"forged-{uuid.uuid4()}"
    facts = {"operation": name, "sequence": 3, **changed}
    lab.stranger.put_command(lab.partition, PAUSE, lab.stranger.headers(lab.last, **facts))
    lab.told(rf"delivery rejected .*{why}")
    once(lab, f"delivery rejected .*{why}")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"\xc1 this is no msgpack \xff", {}),
        (b"", {}),
        (b'{"json": true}', {"content": "foreign", "x-death": "nonsense", "deep": {"a": [1, None, {"b": True}]}}),
        (msgpack.packb([1, 2, 3]), {"federation-operation": "alone"}),
        (b"\x00" * (2 * MIB), {}),
    ],
    ids=["not msgpack", "empty", "json", "a list", "oversized"],
)
def test_a_foreign_message_in_a_partition_is_dead_lettered_and_the_manager_says_so(lab, content, headers):
    before = lab.logs().count("foreign or unreadable message dead-lettered")
    lab.stranger.put_command(lab.partition, content, headers)
    lab.estate.until(lambda: lab.logs().count("foreign or unreadable message dead-lettered") > before, 30)
    once(lab, "foreign or unreadable message dead-lettered|delivery rejected")


@pytest.mark.parametrize(
    "content",
    [
        PAUSE,
        b"\xc1",
        b"\x00" * (2 * MIB),
        body("explode", {}),
        body("pause", {"instance": "x", "surprise": 1}),
        body("pause", {}, version="9.0"),
        body("pause", {}, version=[1]),
        body("pause", {}, namespace="somebody.else"),
        body("pause", "no map"),
    ],
    ids=["good", "not msgpack", "oversized", "unknown name", "unknown field", "version 9.0", "no version", "namespace", "list"],
)  # fmt: skip
def test_a_command_that_nobody_accepted_is_refused_and_never_executed(lab, content):
    name = str(uuid.uuid4())
    lab.stranger.put_command(lab.partition, content, lab.stranger.headers(lab.last, operation=name, sequence=99))
    lab.told(f"operation={name} .*is not in the store", f"not executed operation={name} verdict=refused")
    once(lab, name)
    assert name not in {execution.operation for execution in lab.estate.history().executions}


@pytest.mark.parametrize(
    "facts",
    [
        {"round": 1 << 62},
        {"sequence": 1 << 62, "round": 1 << 40},
        {"operation": "x" * 5000},
        {"operation": "\x00'; DROP TABLE operations; --"},
        {"key": "k" * 5000, "operation": "long key"},
        {"key": "node:nowhere", "operation": "other key"},
    ],
    ids=",".join,
)
def test_a_copy_with_monstrous_facts_harms_nobody(lab, facts):
    lab.stranger.put_command(lab.partition, PAUSE, lab.stranger.headers(lab.last, **facts))
    lab.goes_on()


@pytest.mark.parametrize("content", [PAUSE, b"\xc1", body("explode", {}), body("pause", {"surprise": 1})])
def test_a_forged_copy_of_a_settled_operation_does_nothing(lab, content):
    before = lab.logs().count(f"not executed operation={lab.last['id']} verdict=settled")
    lab.stranger.put_command(lab.partition, content, lab.stranger.headers(lab.last))
    lab.estate.until(lambda: lab.logs().count(f"operation={lab.last['id']} verdict=settled") > before, 30)
    lab.goes_on()


@pytest.mark.parametrize(
    "changed", [{}, {"round": 1 << 40}, {"round": 5, "sequence": 2}], ids=["same copy", "later round", "other sequence"]
)
@pytest.mark.parametrize(
    "content", [b"\xc1", body("explode", {}), body("suspend", {"surprise": 1})], ids=["garbled", "name", "field"]
)
def test_a_forged_copy_of_a_running_operation_never_makes_its_outcome_lie(lab, content, changed):
    control = FaultControl(lab.estate.state)
    fault = control.plant(Fault(action=Action.HANG, phase="under_way", operation="suspend", instance=lab.instance))
    operation = lab.estate.change("suspend", lab.instance)
    lab.estate.until(lambda: control.firings(fault), 30)
    lab.stranger.put_command(lab.partition, content, lab.stranger.headers(operation, **changed))
    lab.estate.until(lambda: lab.stranger.depth(f"federation.{CLUSTER}.e1.p{lab.partition}") == 0, 30)
    control.release(fault)
    assert lab.estate.settle(operation)["state"] == "succeeded"
    lab.told(f"not executed operation={operation['id']} verdict=(settled|refused)")
    control.clear()
    assert lab.estate.settle(lab.estate.change("resume", lab.instance))["state"] == "succeeded"
    lab.goes_on()


# Results queues


def question(lab, **changed):
    facts = {
        "id": "q",
        "worker": "w1",
        "cluster": CLUSTER,
        "partition": lab.partition,
        "operation": lab.last["id"],
        "key": lab.instance,
        "sequence": lab.last["sequence"],
        "round": 1,
        "delivery_count": 0,
    }
    return {**facts, **changed}


def outcome(lab, **changed):
    facts = question(lab)
    for name in ("id", "round", "delivery_count"):
        del facts[name]
    return {**facts, "attempt": 1, "outcome": {"kind": "succeeded", "result": {}}, **changed}


def result(method, arguments, version="1.0", namespace="federation.results"):
    return body(method, arguments, namespace, version)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: b"\xc1 garbage", "the body is not msgpack"),
        (lambda _: b"", "the body is not msgpack"),
        (lambda _: b"\x00" * (2 * MIB), "above the limit"),
        (lambda _: msgpack.packb({1: 2}), "int is not allowed for map key"),
        (lambda _: msgpack.packb([]), "the body is list, not a map"),
        (lambda lab: result("explode", question(lab)), "there is no result called 'explode'"),
        (lambda lab: result("question", question(lab), version="2.0"), "version 2.0 of federation.results"),
        (lambda lab: result("question", question(lab), namespace="x"), "the namespace is 'x'"),
        (lambda lab: result("question", question(lab, round="one")), "the body is no question"),
        (lambda lab: result("question", question(lab, cluster="other")), "speaks for cluster 'other'"),
        (lambda lab: result("question", question(lab, partition=3000)), "partition 3000"),
        (lambda lab: result("outcome", outcome(lab, outcome={"kind": "perhaps"})), "the body is no outcome"),
        (lambda lab: result("outcome", outcome(lab, attempt=None)), "the body is no outcome"),
    ],
    ids=["garbage", "empty", "oversized", "keys", "list", "method", "version", "namespace", "type", "cluster", "partition",
         "kind", "attempt"],
)  # fmt: skip
def test_garbage_in_a_results_queue_is_dropped_with_what_is_wrong(lab, make, why):
    before = len(re.findall(f"unreadable result dropped: .*{why}", lab.logs()))
    lab.stranger.put_result(lab.partition, make(lab))
    lab.estate.until(lambda: len(re.findall(f"unreadable result dropped: .*{why}", lab.logs())) > before, 30)
    once(lab, f"unreadable result dropped: .*{why}")


@pytest.mark.parametrize("method", ["question", "outcome", "progress"])
def test_what_is_said_of_an_unknown_operation_is_dropped_with_a_warning(lab, method):
    name = str(uuid.uuid4())
    facts = {
        "question": question(lab, operation=name),
        "outcome": outcome(lab, operation=name),
        "progress": {**outcome(lab, operation=name), "percent": 3.0, "stage": "x"},
    }[method]
    lab.stranger.put_result(lab.partition, result(method, facts))
    lab.told(f"operation={name} key={lab.instance} is not in the store")
    once(lab, f"operation={name} key=")


@pytest.mark.parametrize("attempt", [-1, 0, 2, 1 << 62])
def test_an_outcome_with_a_forged_attempt_is_dropped(lab, attempt):
    control = FaultControl(lab.estate.state)
    fault = control.plant(Fault(action=Action.HANG, operation="suspend", instance=lab.instance))
    operation = lab.estate.change("suspend", lab.instance)
    lab.estate.until(lambda: control.firings(fault), 30)
    lie = {"kind": "failed", "code": "invalid_state", "message": "a lie"}
    forged = outcome(lab, operation=operation["id"], sequence=operation["sequence"], attempt=attempt, outcome=lie)
    lab.stranger.put_result(lab.partition, result("outcome", forged))
    lab.told(f"outcome of operation={operation['id']} attempt={attempt} dropped")
    assert lab.estate.ask("operation", operation=operation["id"])["state"] == "running"
    control.release(fault)
    assert lab.estate.settle(operation)["state"] == "succeeded"
    control.clear()
    assert lab.estate.settle(lab.estate.change("resume", lab.instance))["state"] == "succeeded"
    lab.goes_on()


@pytest.mark.parametrize(
    "changed",
    [
        {"worker": "w" * 300},
        {"worker": "nobody\x00\n"},
        {"worker": ""},
        {"round": 1 << 62, "delivery_count": 1 << 62},
        {"round": -5, "delivery_count": -5},
        {"id": "i" * 100_000},
        {"renews": 1 << 62, "percent": 1e308, "stage": "s" * 100_000},
        {"operation": "", "key": ""},
    ],
    ids=",".join,
)
def test_a_monstrous_question_is_survived(lab, changed):
    lab.stranger.put_result(lab.partition, result("question", question(lab, **changed)))
    lab.goes_on()


@pytest.mark.parametrize(
    "changed",
    [
        {"round": 1 << 40},
        {"round": 1 << 62},
        {"delivery_count": 1 << 62},
        {"sequence": 1},
        {"worker": "w" * 300},
        {"renews": 7},
        {"renews": 1, "percent": float("nan"), "stage": "s" * 100_000},
    ],
    ids=",".join,
)
def test_a_forged_question_about_a_running_operation_leaves_it_an_outcome(lab, changed):
    control = FaultControl(lab.estate.state)
    fault = control.plant(Fault(action=Action.HANG, operation="suspend", instance=lab.instance))
    operation = lab.estate.change("suspend", lab.instance)
    lab.estate.until(lambda: control.firings(fault), 30)
    forged = question(lab, operation=operation["id"], **{"sequence": operation["sequence"], **changed})
    lab.stranger.put_result(lab.partition, result("question", forged))
    control.release(fault)
    done = lab.estate.settle(operation, 90)
    assert done["state"] == "succeeded", done
    control.clear()
    assert lab.estate.settle(lab.estate.change("resume", lab.instance))["state"] == "succeeded"
    lab.goes_on()


# The dead queue


@pytest.mark.parametrize("content", [b"\xc1", PAUSE], ids=["garbled", "good"])
def test_garbage_in_the_dead_queue_is_taken_once(lab, content):
    before = lab.logs().count("foreign or unreadable message dead-lettered")
    lab.stranger.put_dead(content, {"x-death": [{"queue": 7, "reason": [1]}], "federation-round": "x"})
    lab.estate.until(lambda: lab.logs().count("foreign or unreadable message dead-lettered") > before, 30)
    once(lab, "foreign or unreadable message dead-lettered")


@pytest.mark.parametrize("where", ["dead", "partition"])
def test_a_forged_dead_letter_or_a_copy_in_a_wrong_queue_parks_nobody(lab, where):
    control = FaultControl(lab.estate.state)
    fault = control.plant(Fault(action=Action.HANG, operation="suspend", instance=lab.instance))
    operation = lab.estate.change("suspend", lab.instance)
    lab.estate.until(lambda: control.firings(fault), 30)
    headers = lab.stranger.headers(operation)
    if where == "dead":
        lab.stranger.put_dead(PAUSE, headers)
    else:
        lab.stranger.put_command((lab.partition + 1) % PARTITIONS, PAUSE, headers)
    lab.told(f"dead letter .*operation={operation['id']}.* ignored")
    control.release(fault)
    assert lab.estate.settle(operation)["state"] == "succeeded"
    control.clear()
    assert lab.estate.settle(lab.estate.change("resume", lab.instance))["state"] == "succeeded"
    lab.goes_on()


def test_what_is_dead_while_no_manager_runs_is_counted_by_the_doctor_until_one_takes_it(lab):
    estate = lab.estate
    estate.kill("manager", signal.SIGTERM)
    assert estate.processes["manager"].wait(60) == 0
    lab.stranger.put_command(lab.partition, b"\xc1", {})
    estate.until(lambda: lab.stranger.depth("federation.dead") == 1, 30)
    assert "1 dead letters" in estate.run("--timeout", "2", "doctor").stdout
    estate.start_manager()
    estate.until(lambda: "0 dead letters" in estate.run("doctor").stdout, 60)
    lab.goes_on()
