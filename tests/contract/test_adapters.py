"""Revisions side by side: which one is sent, and that nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.adapters import Adapter, CannotAdapt, Revisions, is_part, only_default
from federation.contract.errors import ContractMismatch, InvalidRequest
from federation.contract.operations import DECLARED, Deprecation, Operation, find

FIRST = replace(find("reboot"), deprecated=Deprecation(replaced_by=("reboot", 2), since="1.1", removal="1.2"))
SECOND = replace(find("reboot"), revision=2, since="1.1", deprecated=Deprecation(replaced_by=("reboot", 3), since="1.2", removal="1.3"))  # fmt: skip
THIRD = replace(find("reboot"), revision=3, since="1.2")


def same(plain: dict[str, object]) -> dict[str, object]:
    return plain


def step(older: int, name: str = "reboot") -> Adapter:
    """Revision n says ``n<n>``; going down loses ``more``."""

    def up(plain: dict[str, object]) -> dict[str, object]:
        return {f"n{older + 1}": plain[f"n{older}"]}

    def down(plain: dict[str, object]) -> dict[str, object]:
        return {f"n{older}": only_default(plain, "more", 0)[f"n{older + 1}"]}

    return Adapter(
        name=name, older=older, newer=older + 1, request_up=up, request_down=down, result_up=up, result_down=down
    )


CHAIN = Revisions([FIRST, SECOND, THIRD], [step(1), step(2)])


@pytest.mark.parametrize(
    ("asked", "spoken", "sent"),
    [
        (FIRST, (1, 0), FIRST),
        (FIRST, (1, 1), FIRST),
        (FIRST, (1, 2), THIRD),
        (SECOND, (1, 0), FIRST),
        (SECOND, (1, 2), SECOND),
        (THIRD, (1, 0), FIRST),
        (THIRD, (1, 1), SECOND),
        (SECOND, (1, 3), THIRD),
    ],
)
def test_what_is_sent_is_the_same_revision_where_it_can_be_and_the_newest_reachable_one_else(
    asked: Operation, spoken: tuple[int, int], sent: Operation
) -> None:
    assert CHAIN.sendable(asked, spoken) is sent


@given(st.integers())
def test_a_request_goes_up_and_down_a_chain_without_loss(value: int) -> None:
    third = CHAIN.adapt_request(FIRST, THIRD, {"n1": value})
    assert third == {"n3": value}
    assert CHAIN.adapt_request(THIRD, FIRST, third) == {"n1": value}
    assert CHAIN.adapt_result(FIRST, THIRD, {"n3": value}) == {"n1": value}


def test_what_the_other_revision_has_no_word_for_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="cannot carry more") as refusal:
        CHAIN.adapt_request(THIRD, FIRST, {"n3": 1, "more": 5})
    assert refusal.value.detail["field"] == "more"
    assert CHAIN.adapt_request(THIRD, FIRST, {"n3": 1, "more": 0}) == {"n1": 1}


def test_without_an_adapter_the_refusal_names_both_releases() -> None:
    alone = Revisions([FIRST, SECOND])
    with pytest.raises(ContractMismatch, match=r"reboot revision 2 came with contract release 1\.1.*speaks 1\.0"):
        alone.sendable(SECOND, (1, 0))
    with pytest.raises(ContractMismatch, match=r"went with 1\.2; the cluster speaks 1\.2"):
        alone.sendable(FIRST, (1, 2))


def test_an_unknown_revision_is_told_which_are_known() -> None:
    with pytest.raises(ContractMismatch, match="known are its revisions 1, 2, 3"):
        CHAIN.find("reboot", 4)
    with pytest.raises(ContractMismatch, match="known are: reboot"):
        CHAIN.find("explode")


def test_a_range_of_releases_serves_what_is_part_of_any_of_them() -> None:
    assert list(CHAIN.served_in((1, 0), (1, 1))) == [FIRST, SECOND]
    assert list(CHAIN.served_in((1, 1), (1, 2))) == [FIRST, SECOND, THIRD]
    assert not is_part(FIRST, (1, 2), (1, 9))


def test_an_adapter_between_revisions_that_are_not_declared_is_refused() -> None:
    for wrong in (step(3), step(1, name="pause"), replace(step(1), older=2, newer=1)):
        with pytest.raises(ValueError, match="not declared"):
            Revisions([FIRST, SECOND], [wrong])


def test_saying_no_more_than_the_default_loses_nothing() -> None:
    assert only_default({"a": 1, "b": 2}, "b", 2) == {"a": 1}
    assert only_default({"a": 1}, "b", 2) == {"a": 1}
    with pytest.raises(CannotAdapt, match="could only be 2"):
        only_default({"a": 1, "b": 3}, "b", 2)


def test_every_deprecated_revision_of_this_release_has_a_way_to_its_replacement() -> None:
    here = Revisions()
    for operation in (each for each in DECLARED if each.deprecated is not None):
        replacement = here.find(*operation.deprecated.replaced_by)  # type: ignore[union-attr]  # filtered above
        if replacement.name == operation.name:
            assert here._way(operation, replacement)
