"""Whatever a driver does, what comes out is an outcome of the contract."""

import gc
import logging
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.test_calls import Setting
from worker.tiny_driver import TinyDriver, an_instance, key, opened

from federation.contract import errors as e
from federation.contract.adapters import Revisions
from federation.contract.call import Revoked
from federation.contract.capabilities import Capabilities
from federation.contract.instances import Instance, PowerState
from federation.contract.nodes import Description
from federation.contract.operations import Deprecation, Lane, find
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.contract.results import Destroyed
from federation.protocol.worker_actions import Held
from federation.worker.boundary import Boundary
from federation.worker.calls import QueryCall
from federation.worker.counters import Counters
from federation.worker.redaction import Redactor


class Case:
    """One driver behind a boundary."""

    def __init__(self, act, secrets=(), max_outcome_bytes=1 << 20, driver=None, attempt=1):
        self.counters = Counters()
        made = opened(driver or TinyDriver(act), secrets)
        self.boundary = Boundary(made.driver, made.served, made.redactor, self.counters, max_outcome_bytes)
        self.setting = Setting(attempt=attempt)

    def execute(self, name="power_on", error=None, **command):
        fields = {"name": name, "arguments": {"instance": key(1)}} | command
        changed = msgspec.structs.replace(self.setting.call.command, **fields)
        return self.boundary.execute(Held(changed, 0, None, error), self.setting.call)

    def query(self, name="get_instance", revision=1, arguments=None, call=None):
        arguments = {"instance": key(1)} if arguments is None else arguments
        return self.boundary.query(name, revision, arguments, call or QueryCall("c", 5.0))

    @property
    def driver_bugs(self):
        return self.counters.snapshot()["driver_bugs"].get("tiny", 0)


def raising(error):
    def act(_call, _request):
        raise error

    return act


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Liar(e.InvalidState):
    """A driver's own subclass that says of itself that its effect is none and its code another."""

    code = "succeeded"
    effect = e.Effect.NONE


class Wordless(e.NotFound):
    def __init__(self):
        Exception.__init__(self)


class Exploding(e.NotFound):
    @property
    def message(self):
        raise ZeroDivisionError

    @message.setter
    def message(self, value):
        pass


class Unshowable(Exception):
    @property
    def __notes__(self):
        raise ZeroDivisionError


class Meta(type):
    @property
    def __name__(cls):
        raise RuntimeError("even my name")


class Nameless(Exception, metaclass=Meta):
    pass


def all_exceptions():
    """Every exception class that this interpreter knows, made without arguments where that is possible."""
    found, waiting = [], [BaseException]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        try:
            found.append(kind())
        except Exception:  # noqa: BLE001 — it wants arguments
            continue
    return [error for error in found if not isinstance(error, Revoked)]


ODD = [Unprintable(), Wordless(), Exploding("x"), Nameless(), Unshowable(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(),
       RecursionError(), MemoryError(), StopIteration(7), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
       ExceptionGroup("several", [ValueError("a"), KeyError("b")]), BaseExceptionGroup("x", [SystemExit()]),
       Liar("no"), e.OperationError("the root itself")]  # fmt: skip


def check_outcome_of(error):
    outcome = Case(raising(error)).execute()
    assert outcome.code in {*find("power_on").errors, e.DriverBug.code}
    assert outcome.kind in {OutcomeKind.FAILED, OutcomeKind.UNKNOWN}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=Outcome) == outcome


@pytest.mark.parametrize("error", ODD, ids=lambda error: type.__dict__["__name__"].__get__(type(error)))
def test_an_odd_exception_comes_out_as_a_code_that_its_operation_declares_or_as_driver_bug(error):
    check_outcome_of(error)


def test_any_exception_of_a_driver_comes_out_as_a_code_that_its_operation_declares_or_as_driver_bug():
    known = all_exceptions()
    assert len(known) > 100
    for error in known:
        check_outcome_of(error)


@pytest.mark.parametrize("kind", e.CATALOGUE.values(), ids=e.CATALOGUE)
def test_a_catalogue_error_passes_exactly_when_the_operation_declares_it(kind):
    case = Case(raising(kind("it is so", limit=3)))
    outcome = case.execute()
    if kind.code in find("power_on").errors:
        assert (outcome.code, outcome.message, outcome.detail) == (kind.code, "it is so", {"limit": "3"})
        unknown = kind.effect is e.Effect.UNKNOWN
        assert outcome.kind is (OutcomeKind.UNKNOWN if unknown else OutcomeKind.FAILED)
        assert case.driver_bugs == 0
    else:
        assert (outcome.code, outcome.kind) == ("driver_bug", OutcomeKind.UNKNOWN)
        assert case.driver_bugs == 1


def test_the_code_and_effect_of_an_error_are_those_of_the_catalogue_whatever_the_driver_wrote_over_them():
    outcome = Case(raising(Liar("no"))).execute()
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "invalid_state")


def test_an_undeclared_exception_leaves_the_process_by_its_class_name_only(caplog):
    case = Case(raising(ConnectionError("login admin:hunter2@vcenter failed, password=hunter3")), secrets=["hunter2"])
    with caplog.at_level(logging.ERROR):
        outcome = case.execute()
    assert "ConnectionError" in outcome.message
    assert "hunter" not in str(outcome)
    assert "hunter" not in caplog.text
    assert "tiny_driver.py" in caplog.text, "the log has the traceback"


def test_even_the_messages_of_catalogue_errors_are_cleaned():
    text = "https://me:hunter2@host/x said token=abcdef\x1b[31m\ud800"
    outcome = Case(raising(e.HypervisorRefused(text, answer=text))).execute()
    for told in (outcome.message, outcome.detail["answer"]):
        assert "hunter2" not in told
        assert "abcdef" not in told
        assert "\x1b" not in told
        told.encode()


@given(st.text(), st.dictionaries(st.text().filter(lambda n: n not in {"self", "message"}), st.text(), max_size=30))
def test_any_message_and_detail_can_be_sent_and_is_bounded(message, detail):
    outcome = Case(raising(e.NotFound(message * 300, **detail))).execute()
    assert outcome.code == "not_found"
    assert len(msgspec.msgpack.encode(outcome)) < 64_000


def test_a_result_comes_out_in_builtin_types():
    outcome = Case(lambda _call, request: an_instance(request.instance)).execute()
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.result["id"] == key(1)
    assert outcome.result["power_state"] == "running"


@pytest.mark.parametrize(
    "result",
    [
        Destroyed(), {"id": key(1)}, "done", 0, object(), Instance,
        Instance(id=key(1), name="vm", node="n", power_state=PowerState.RUNNING, disks="none"),
        Instance(id=key(1), name="vm", node="n", power_state=PowerState.RUNNING, vcpus="1", memory_bytes=1),
        Instance(id=key(1), name=b"vm", node="n", power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1),
        Instance(id=key(1), name="vm", node=object(), power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1),
        Instance(id=key(1), name="vm", node="\ud800", power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1),
        Instance(id=key(1), name="vm", node="n", power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1 << 80),
    ],
)  # fmt: skip
def test_a_result_that_is_not_what_the_operation_declares_is_a_driver_bug(result):
    case = Case(lambda _call, _request: result)
    outcome = case.execute()
    assert (outcome.kind, outcome.code, outcome.result) == (OutcomeKind.UNKNOWN, "driver_bug", None)
    assert case.driver_bugs == 1
    assert "object at 0x" not in outcome.message


def test_nothing_is_a_result_only_where_a_driver_returns_empty():
    driver = TinyDriver()
    driver.power_on = lambda _call, _request: None
    assert Case(None, driver=driver).execute().code == "driver_bug"


def test_a_result_too_big_to_send_is_a_driver_bug():
    big = msgspec.structs.replace(an_instance(key(1)), metadata={"x": "y" * 5000})
    outcome = Case(lambda _call, _request: big, max_outcome_bytes=4096).execute()
    assert (outcome.code, outcome.kind) == ("driver_bug", OutcomeKind.UNKNOWN)
    assert "4096" in outcome.message


def test_a_revoked_call_has_no_outcome():
    case = Case(lambda call, _request: call.guard())
    case.setting.call.revoke()
    assert case.execute() is None


def test_a_driver_that_says_revoked_by_itself_is_a_driver_bug():
    assert Case(raising(Revoked())).execute().code == "driver_bug"


def never(_call, _request):
    raise AssertionError("the driver was called")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ({"name": "levitate"}, "contract_mismatch", "levitate"),
        ({"revision": 2}, "contract_mismatch", "revision 2"),
        ({"release": "1.1"}, "contract_mismatch", "1.0 to 1.0"),
        ({"release": "0.9"}, "contract_mismatch", "0.9"),
        ({"release": "latest"}, "contract_mismatch", "latest"),
        ({"name": "get_instance"}, "contract_mismatch", "lane"),
        ({"arguments": {}}, "invalid_request", "instance"),
        ({"arguments": {"instance": 7}}, "invalid_request", "expected `str`, got `int`"),
        ({"arguments": {"instance": key(1), "speed": 9}}, "invalid_request", "speed"),
        ({"arguments": ["x"]}, "invalid_request", "list"),
        ({"arguments": None}, "invalid_request", "NoneType"),
        ({"error": "body is not msgpack"}, "invalid_request", "body is not msgpack"),
        ({"error": "version 9.9", "release": "9.9"}, "contract_mismatch", "9.9"),
    ],
)
def test_a_request_that_this_worker_does_not_serve_fails_before_the_driver_is_called(command, code, words):
    case = Case(never)
    outcome = case.execute(**command)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, code)
    assert words.lower() in outcome.message.lower()
    assert e.CATALOGUE[outcome.code].effect is e.Effect.NONE
    assert case.driver_bugs == 0


class Modest(TinyDriver):
    def description(self) -> Description:
        return msgspec.structs.replace(super().description(), capabilities=Capabilities(flags=frozenset()))


def test_an_operation_whose_capability_the_driver_does_not_declare_is_not_supported():
    outcome = Case(None, driver=Modest(never)).execute("pause")
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "not_supported")


def test_a_driver_without_the_method_does_not_serve_the_operation():
    driver = TinyDriver(never)
    del driver.power_on
    outcome = Case(None, driver=driver).execute()
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "contract_mismatch")


def test_a_query_that_wants_to_change_something_is_a_driver_bug_even_if_the_driver_hides_it():
    def act(call, _request):
        try:
            call.guard()
        except Exception:  # noqa: BLE001
            return an_instance(key(1))

    case = Case(act)
    assert case.query().code == "driver_bug"
    assert case.driver_bugs == 1
    assert Case(lambda call, _request: call.guard()).query().code == "driver_bug"


def test_a_query_has_the_same_boundary():
    assert Case(lambda _c, _r: None).query().kind is OutcomeKind.SUCCEEDED
    assert Case(raising(ValueError("x"))).query().code == "driver_bug"
    assert Case(raising(SystemExit())).query().code == "driver_bug"
    assert Case(raising(e.NotFound("x"))).query().code == "not_found"
    assert Case(raising(Revoked())).query().code == "driver_bug"
    assert Case(never).query("power_on").code == "contract_mismatch"
    assert Case(never).query(arguments={"instance": "no"}).code == "invalid_request"


def test_a_traceback_that_cannot_be_shown_does_not_break_the_boundary():
    assert Case(raising(Unshowable())).execute().code == "driver_bug"
    assert Redactor().traceback(Unshowable()) == "Unshowable (its traceback cannot be shown: ZeroDivisionError)"


def test_an_outcome_keeps_nothing_of_the_driver_alive():
    class Heavy:
        pass

    def act(_call, _request):
        heavy = Heavy()
        raise ValueError(heavy)

    Case(act).execute()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Heavy)]


@pytest.mark.parametrize(
    "command",
    [{"error": "body is not msgpack"}, {"release": "9.0"}, {"name": "levitate"}, {"arguments": {"instance": 1}}],
    ids=str,
)
def test_what_a_later_attempt_cannot_even_start_is_unknown_because_an_earlier_one_may_have_acted(command):
    first, later = Case(raising(AssertionError)), Case(raising(AssertionError), attempt=2)
    refused, parked = first.execute(**command), later.execute(**command)
    assert refused.kind is OutcomeKind.FAILED
    assert (parked.kind, parked.code, parked.detail["cause"]) == (OutcomeKind.UNKNOWN, "outcome_unknown", refused.code)
    assert refused.message in parked.message


TWICE = replace(find("reboot"), revision=2, since="1.1")
ONCE = replace(find("reboot"), deprecated=Deprecation(replaced_by=("reboot", 2), since="1.1", removal="1.2"))


class Ranged(TinyDriver):
    """Serves a range of releases, with a method for each revision of reboot."""

    def __init__(self, lowest, highest):
        super().__init__()
        self.range = (lowest, highest)
        self.called = []
        self.reboot = self._noting("reboot")
        self.reboot_2 = self._noting("reboot_2")

    def _noting(self, name):
        def method(_call, request):
            self.called.append(name)
            return an_instance(request.instance)

        return method

    def description(self) -> Description:
        return msgspec.structs.replace(super().description(), releases=self.range)


@pytest.mark.parametrize(
    ("lowest", "highest", "served", "missing"),
    [
        ("1.0", "1.0", {1: "reboot"}, {2: r"came with contract release 1.1; the driver serves 1.0 to 1.0"}),
        ("1.0", "1.1", {1: "reboot", 2: "reboot_2"}, {3: "known are its revisions 1, 2"}),
        ("1.1", "1.2", {1: "reboot", 2: "reboot_2"}, {}),
        ("1.2", "1.3", {2: "reboot_2"}, {1: "went with 1.2; the driver serves 1.2 to 1.3"}),
    ],
)
def test_which_revisions_a_worker_serves_comes_from_its_range_of_releases(lowest, highest, served, missing):
    driver = Ranged(lowest, highest)
    made = opened(driver)
    assert (str(made.served.lowest), str(made.served.highest)) == (lowest, highest)
    revisions = Revisions([ONCE, TWICE])
    boundary = Boundary(driver, made.served, made.redactor, Counters(), 1 << 20, revisions)
    for revision, method in served.items():
        _, _, found = boundary._prepare("reboot", revision, {"instance": key(1)}, Lane.ORDERED)
        found(None, find("reboot").request(instance=key(1)))
        assert driver.called.pop() == method
    for revision, words in missing.items():
        with pytest.raises(e.ContractMismatch, match=words):
            boundary._prepare("reboot", revision, {"instance": key(1)}, Lane.ORDERED)


def test_the_number_of_driver_bugs_is_a_figure_of_its_own():
    case = Case(raising(ValueError("password=hunter2")))
    outcome = case.execute()
    case.execute()
    assert case.counters.driver_bugs == 2
    assert "hunter2" not in str(outcome)
