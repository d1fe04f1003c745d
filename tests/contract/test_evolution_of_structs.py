"""The rules see what an author writes: real Structs, declared in an older and a newer form."""

import enum
from typing import Annotated, ClassVar

import msgspec
import pytest
from msgspec import Meta

from federation.contract.capabilities import Capability, NeedsCapability
from federation.contract.evolution.comparison import compare
from federation.contract.evolution.rule_book import Weight
from federation.contract.operations import Convergence, Deprecation, Lane, Operation, Ordering
from federation.contract.release import Release, snapshot
from federation.contract.requests import InstanceRequest
from federation.contract.since import since


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Bulb(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="bulb"):
    watts: Annotated[int, Meta(ge=1, le=100)]


class Tube(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="tube"):
    length_millimetres: int


class Light(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Light a lamp."""

    lamp: Bulb
    colour: Colour = Colour.RED


class Lit(msgspec.Struct, frozen=True, kw_only=True):
    """The lamp is lit."""

    watts: int


def named(kind, name):
    """The newer form bears the older one's name, as it would in its own tree."""
    kind.__name__ = kind.__qualname__ = name
    return kind


def light(request=Light, result=Lit, **facts):
    return Operation(
        name="light", group="lamps", verb="light", summary="Light a lamp.", lane=Lane.ORDERED, ordering=Ordering.INSTANCE,
        request=request, result=result, convergence=Convergence.TARGET, errors=frozenset({"conflict"}), **facts,
    )  # fmt: skip


def grown(base, **fields):
    """The older struct with other or further fields, each ``type`` or ``(type, default)``."""
    own = [(name, *given) if isinstance(given, tuple) else (name, given) for name, given in fields.items()]
    options = {"frozen": True, "kw_only": True, "forbid_unknown_fields": base.__struct_config__.forbid_unknown_fields}
    return named(
        msgspec.defstruct("Newer", own, bases=(base,), namespace={"__doc__": base.__doc__}, **options), base.__name__
    )


def found(*operations):
    old = snapshot([light()], Release(1, 0))
    return {(f.rule, f.path, f.weight) for f in compare(old, snapshot(operations, Release(1, 1)))}


def rules(*operations):
    return {(rule, path) for rule, path, weight in found(*operations) if weight is Weight.BREAK}


def test_the_same_declaration_is_no_change():
    assert found(light()) == set()


@pytest.mark.parametrize(
    ("request_fields", "rule", "below"),
    [
        ({"dim": bool}, "request-field-added-required", "dim"),
        ({"dim": (bool, False)}, "request-field-undated", "dim"),
        ({"dim": (Annotated[bool, since("1.2")], False)}, "request-field-undated", "dim"),
        ({"colour": (Colour, Colour.BLUE)}, "default-changed", "colour"),
        ({"colour": Colour}, "request-field-became-required", "colour"),
        ({"lamp": Bulb | Tube}, "request-alternative-undated", "lamp"),
        ({"lamp": Tube}, "type-changed", "lamp"),
        ({"instance": Annotated[str, Meta(pattern="^x$")]}, "pattern-changed", "instance"),
    ],
)
def test_a_break_in_a_request_is_seen(request_fields, rule, below):
    assert (rule, f"types/Light/{below}") in rules(light(request=grown(Light, **request_fields)))


@pytest.mark.parametrize(
    ("result_fields", "rule", "below"),
    [
        ({"colour": Colour}, "result-field-added-required", "colour"),
        ({"watts": (int, 0)}, "result-field-became-optional", "watts"),
        ({"watts": int | None}, "result-null-allowed", "watts"),
        ({"watts": float}, "result-number-widened", "watts"),
        ({"watts": Annotated[int, Meta(le=9)]}, "result-limit-narrowed", "watts"),
    ],
)
def test_a_break_in_a_result_is_seen(result_fields, rule, below):
    assert (rule, f"types/Lit/{below}") in rules(light(result=grown(Lit, **result_fields)))


def test_a_dated_field_and_a_result_with_a_default_pass():
    newer = light(
        request=grown(Light, dim=(Annotated[bool, since("1.1")], False)), result=grown(Lit, colour=(Colour, Colour.RED))
    )
    assert rules(newer) == set()
    assert {rule for rule, _, _ in found(newer)} == {"request-field-added", "result-field-added"}


def test_a_dated_alternative_passes():
    class Candle(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="candle"):
        since_release: ClassVar[str] = "1.1"

    newer = light(request=grown(Light, lamp=Bulb | Candle))
    assert rules(newer) == set()


def test_a_part_that_asks_for_a_capability_is_seen():
    class Needy(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, tag_field="kind", tag="bulb"):
        capability: ClassVar[Capability] = Capability.PAUSE
        watts: Annotated[int, Meta(ge=1, le=100)]

    assert ("need-added", "contract/needs/Bulb") in rules(light(request=grown(Light, lamp=named(Needy, "Bulb"))))


def test_what_is_kept_only_for_older_releases_is_not_part_of_the_release():
    terms = Deprecation(replaced_by=("light", 2), since="1.0", removal="1.1")
    kept, newer = light(deprecated=terms), light(revision=2, since="1.1")
    assert [o["revision"] for o in snapshot([kept, newer], Release(1, 0))["operations"]] == [1]
    assert [o["revision"] for o in snapshot([kept, newer], Release(1, 1))["operations"]] == [2]


def test_a_widened_declaration_of_errors_is_seen():
    wider = Operation(
        **{field: getattr(light(), field) for field in Operation.__dataclass_fields__ if field != "errors"},
        errors=frozenset({"conflict", "timed_out"}),
    )
    assert rules(wider) == {("error-declared", "operations/light/errors/timed_out")}
