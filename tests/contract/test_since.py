"""What a release cannot say is named, and what it does not know is left out."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.since import Newer, as_spoken, field_since, newer_parts, since, value_of

OLD, NEW = (1, 0), (1, 1)


class Bus(enum.StrEnum):
    VIRTIO = "virtio"
    NVME = "nvme"


VALUES = {value_of(Bus.NVME): "1.1"}


class Blank(msgspec.Struct, frozen=True, kw_only=True, tag="blank"):
    size: int
    shared: Annotated[bool, since("1.1", description="Several instances may use it.")] = False
    bus: Bus = Bus.VIRTIO


class Remote(msgspec.Struct, frozen=True, kw_only=True, tag="remote"):
    since_release: ClassVar[str] = "1.1"
    url: str


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    disks: tuple[Blank | Remote, ...] = ()
    labels: Annotated[dict[str, str], since("1.1")] = {}
    limit: Annotated[int, since("1.1", ge=1)] | None = None
    most: dict[str, Blank] = {}


def found(request: Ask, spoken: tuple[int, int] = OLD) -> list[Newer]:
    return list(newer_parts(request, spoken, VALUES))


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (Ask(name="a", labels={"a": "b"}), "labels"),
        (Ask(name="a", limit=3), "limit"),
        (Ask(name="a", disks=(Blank(size=1), Blank(size=1, shared=True))), "disks[1].shared"),
        (Ask(name="a", disks=(Blank(size=1, bus=Bus.NVME),)), "disks[0].bus=nvme"),
        (Ask(name="a", disks=(Remote(url="x"),)), "disks[0]"),
        (Ask(name="a", most={"first": Blank(size=1, shared=True)}), "most.first.shared"),
    ],
)
def test_what_an_older_release_cannot_say_is_named_by_its_path(request_: Ask, path: str) -> None:
    assert found(request_) == [Newer(path, "1.1")]
    assert found(request_, NEW) == []


def test_a_newer_field_that_says_only_its_default_is_left_out_for_who_does_not_know_it() -> None:
    request = Ask(name="a", disks=(Blank(size=1),), most={"first": Blank(size=2)})
    assert found(request) == []
    disk = {"type": "blank", "size": 1, "bus": "virtio"}
    assert as_spoken(request, OLD) == {"name": "a", "disks": (disk,), "most": {"first": {**disk, "size": 2}}}
    assert as_spoken(request, NEW) == msgspec.to_builtins(request)


def test_the_release_of_a_field_stands_in_its_schema_beside_its_limits() -> None:
    _, types = msgspec.json.schema_components([Blank])
    shared = types["Blank"]["properties"]["shared"]
    assert shared["since"] == "1.1"
    assert shared["description"].startswith("Several")


def test_a_declaration_that_names_no_release_does_not_get_far() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        since("soon")


def test_a_field_that_came_with_its_struct_has_no_release() -> None:
    assert field_since(Annotated[int, msgspec.Meta(ge=1)]) is None
    assert field_since(int | None) is None


blanks = st.builds(Blank, size=st.integers(0, 9), shared=st.booleans(), bus=st.sampled_from(Bus))
asks = st.builds(
    Ask,
    name=st.text(max_size=3),
    disks=st.lists(blanks | st.builds(Remote, url=st.text(max_size=3)), max_size=3).map(tuple),
    labels=st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    limit=st.none() | st.integers(1, 5),
    most=st.dictionaries(st.text(max_size=2), blanks, max_size=2),
)


@given(asks)
def test_what_goes_out_is_read_as_what_was_asked_or_is_refused(request: Ask) -> None:
    if not found(request):
        assert msgspec.convert(as_spoken(request, OLD), Ask) == request
