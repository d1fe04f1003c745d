"""The publisher's rule, against a broker that confirms, refuses and forgets as it likes."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from federation.protocol.publishing import PublisherCore, Unsent

KEYS = st.sampled_from(["a", "b", "c"])


def unsent(sequence: int, round_: int = 1) -> Unsent:
    return Unsent(f"op{sequence}", sequence, round_)


def test_the_next_operation_of_a_key_is_sent_when_the_one_before_it_is_confirmed() -> None:
    core = PublisherCore()
    assert core.accepted("k", unsent(1)) == [unsent(1)]
    assert core.accepted("k", unsent(2)) == []
    assert core.confirmed("k", 1, 1) == [unsent(2)]
    assert core.confirmed("k", 2, 1) == []
    assert core.backlog == 0
    assert core.keys == set()


def test_different_keys_do_not_wait_for_one_another() -> None:
    core = PublisherCore()
    assert core.accepted("k1", unsent(1)) == [unsent(1)]
    assert core.accepted("k2", unsent(1)) == [unsent(1)]


def test_nothing_of_a_key_is_sent_behind_a_failed_copy_until_its_new_round_is() -> None:
    core = PublisherCore()
    core.accepted("k", unsent(1))
    core.accepted("k", unsent(2))
    assert core.failed("k", 1, 1) == unsent(1)
    assert core.pending("k") == []
    assert core.accepted("k", unsent(3)) == []
    assert core.accepted("k", unsent(1, 2)) == [unsent(1, 2)]
    assert core.confirmed("k", 1, 2) == [unsent(2)]


def test_a_failed_copy_of_what_has_its_outcome_by_now_lets_its_successor_go_once_that_is_told() -> None:
    core = PublisherCore()
    core.accepted("k", unsent(1))
    core.accepted("k", unsent(2))
    core.failed("k", 1, 1)
    assert core.settled("k", 1) == [unsent(2)]


def test_a_newer_round_that_waits_already_is_sent_as_pending_after_a_failure() -> None:
    core = PublisherCore()
    core.accepted("k", unsent(1))
    assert core.accepted("k", unsent(1, 2)) == []
    core.failed("k", 1, 1)
    assert core.pending("k") == [unsent(1, 2)]


def test_publishing_again_from_the_position_goes_in_order() -> None:
    core = PublisherCore()
    core.accepted("k", unsent(3))
    assert core.accepted("k", unsent(1, 2)) == []
    assert core.accepted("k", unsent(2, 2)) == []
    assert core.confirmed("k", 3, 1) == [unsent(1, 2)]
    assert core.confirmed("k", 1, 2) == [unsent(2, 2)]


def test_the_confirm_of_an_older_round_does_not_count_for_a_newer_one() -> None:
    core = PublisherCore()
    core.accepted("k", unsent(1))
    core.accepted("k", unsent(2))
    core.failed("k", 1, 1)
    core.accepted("k", unsent(1, 2))
    assert core.confirmed("k", 1, 1) == []
    assert core.failed("k", 1, 1) is None


def test_what_is_settled_while_it_is_in_flight_is_not_waited_for() -> None:
    core = PublisherCore()
    for sequence in (1, 2, 3):
        core.accepted("k", unsent(sequence))
    assert core.settled("k", 2) == [unsent(3)]
    assert core.confirmed("k", 1, 1) == []


def test_a_key_that_belongs_to_another_manager_is_forgotten() -> None:
    core = PublisherCore()
    core.accepted("k1", unsent(1))
    core.accepted("k2", unsent(1))
    core.forget({"k1"})
    assert core.keys == {"k2"}
    assert core.confirmed("k1", 1, 1) == []


class AnyBroker(RuleBasedStateMachine):
    """Accepts in order, confirms, fails, settles and republishes at random; keeps the books that the core is checked with."""

    def __init__(self) -> None:
        super().__init__()
        self.core = PublisherCore()
        self.rounds: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        self.confirmed: dict[str, set[int]] = {"a": set(), "b": set(), "c": set()}
        self.position = {"a": 0, "b": 0, "c": 0}
        self.told = {"a": 0, "b": 0, "c": 0}
        self.in_flight: dict[str, Unsent] = {}
        self.new_rounds_to_write: set[tuple[str, int]] = set()

    def _send(self, key: str, sends: list[Unsent]) -> list[tuple[str, Unsent]]:
        assert len(sends) <= 1, "never two of a key at once"
        for one in sends:
            assert key not in self.in_flight, "never two of a key in flight"
            assert one.sequence > self.told[key], "nothing that it knows to be settled"
            assert one.round == self.rounds[key][one.sequence - 1], "the round that is written down"
            done = self.confirmed[key] | set(range(1, self.position[key] + 1))
            missing = [s for s in range(1, one.sequence) if s not in done]
            assert not missing, f"operation {one.sequence} before {missing} were confirmed or settled"
            self.in_flight[key] = one
        return [(key, one) for one in sends]

    @rule(key=KEYS)
    def accept(self, key: str) -> None:
        """An operation is accepted and written."""
        self.rounds[key].append(1)
        self._send(key, self.core.accepted(key, unsent(len(self.rounds[key]))))

    @rule(key=KEYS)
    def confirm(self, key: str) -> None:
        """The broker has it."""
        if key in self.in_flight:
            one = self.in_flight.pop(key)
            self.confirmed[key].add(one.sequence)
            self._send(key, self.core.confirmed(key, one.sequence, one.round))

    @rule(key=KEYS)
    def fail(self, key: str) -> None:
        """Nobody knows whether the broker has it."""
        if key in self.in_flight:
            one = self.in_flight.pop(key)
            assert self.core.failed(key, one.sequence, one.round) == one
            self._send(key, self.core.pending(key))
            if self.rounds[key][one.sequence - 1] == one.round:
                self.new_rounds_to_write.add((key, one.sequence))

    @rule(data=st.data())
    def write_new_round(self, data: st.DataObject) -> None:
        """The store has the new round, or says that there is nothing to publish any more."""
        if self.new_rounds_to_write:
            key, sequence = data.draw(st.sampled_from(sorted(self.new_rounds_to_write)))
            self.new_rounds_to_write.discard((key, sequence))
            if sequence <= self.position[key]:
                self._send(key, self.core.settled(key, sequence))
                return
            self.rounds[key][sequence - 1] += 1
            self._send(key, self.core.accepted(key, unsent(sequence, self.rounds[key][sequence - 1])))

    @rule(key=KEYS, told=st.booleans())
    def settle(self, key: str, told: bool) -> None:  # noqa: FBT001
        """The next operation gets its outcome, by this manager or by another one."""
        if self.position[key] < len(self.rounds[key]):
            self.position[key] += 1
            current = self.in_flight.get(key)
            if told:
                self.told[key] = self.position[key]
                if current is not None and current.sequence <= self.position[key]:
                    del self.in_flight[key]
                self._send(key, self.core.settled(key, self.position[key]))
            else:
                self.confirmed[key].add(self.position[key])

    @rule(key=KEYS)
    def republish(self, key: str) -> None:
        """A gap: everything unsettled again, in order, in a new round."""
        for sequence in range(self.position[key] + 1, len(self.rounds[key]) + 1):
            self.rounds[key][sequence - 1] += 1
            self.new_rounds_to_write.discard((key, sequence))
            self._send(key, self.core.accepted(key, unsent(sequence, self.rounds[key][sequence - 1])))

    @invariant()
    def what_is_in_flight_is_known(self) -> None:
        """The core's books and ours agree."""
        for key, one in self.in_flight.items():
            assert self.core._lines[key].in_flight == one

    def teardown(self) -> None:
        """When the broker answers for everything, everything goes out: nothing waits for ever."""
        for _ in range(1000):
            busy = False
            for key, sequence in sorted(self.new_rounds_to_write):
                busy = True
                self.new_rounds_to_write.discard((key, sequence))
                if sequence <= self.position[key]:
                    self._send(key, self.core.settled(key, sequence))
                else:
                    self.rounds[key][sequence - 1] += 1
                    self._send(key, self.core.accepted(key, unsent(sequence, self.rounds[key][sequence - 1])))
            for key in list(self.in_flight):
                busy = True
                self.confirm(key)
            if not busy:
                break
        assert self.core.backlog == 0
        for key, rounds in self.rounds.items():
            assert self.confirmed[key] | set(range(1, self.position[key] + 1)) >= set(range(1, len(rounds) + 1))


TestThePublishersRuleHoldsUnderAnyBroker = AnyBroker.TestCase
