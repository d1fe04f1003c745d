"""The protocol's messages survive the wire, and nothing else passes for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Command, Progress, Question, Report, Result

numbers = st.integers(0, 2**63 - 1)
percents = st.none() | st.floats(0, 100)
place = {"partition": numbers}
copy = {"sequence": numbers, "round": numbers}
messages = st.one_of(
    st.builds(Question, **place, **copy, delivery_count=numbers, renews=st.none() | numbers, percent=percents),
    st.builds(Progress, **place, attempt=numbers, percent=percents),
    st.builds(
        Report,
        **place,
        sequence=numbers,
        attempt=numbers,
        outcome=st.builds(Outcome, result=st.none(), kind=st.sampled_from(OutcomeKind)),
    ),
)


@given(messages)
def test_what_a_worker_says_is_told_apart_by_its_tag(message: Result) -> None:
    for package in (msgspec.json, msgspec.msgpack):
        assert package.decode(package.encode(message), type=Result) == message
    assert msgspec.convert(msgspec.to_builtins(message), Result) == message


@given(
    st.builds(Answer, attempt=numbers),
    st.builds(Command, **place, **copy, arguments=st.dictionaries(st.text(), st.integers() | st.text())),
)
def test_what_a_manager_says_survives_the_wire(answer: Answer, command: Command) -> None:
    for message in (answer, command):
        assert msgspec.convert(msgspec.to_builtins(message), type(message), strict=True) == message


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"type": "verdict"},
        {"type": "question", "id": "q"},
        {"type": "outcome", "worker": "w", "attempt": "three"},
        [],
        None,
    ],
)
def test_what_is_no_message_is_refused(raw: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, Result)


def test_a_message_of_a_later_release_with_more_fields_is_still_read() -> None:
    question = Question(
        id="q", worker="w", cluster="c", partition=0, operation="op", key="k", sequence=1, round=1, delivery_count=0
    )
    assert msgspec.convert({**msgspec.to_builtins(question), "colour": "red"}, Result) == question


def test_messages_cannot_be_changed() -> None:
    answer = Answer(question="q", operation="op", key="k", verdict="grant")
    with pytest.raises(AttributeError):
        answer.attempt = 2  # type: ignore[misc]
