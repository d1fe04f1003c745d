"""An instance of a CIM class: properties by their published names, checked against the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from federation_hyperv.cim.errors import BadValue
from federation_hyperv.cim.paths import Reference
from federation_hyperv.cim.schema import CimClass, Field, load_schemas
from federation_hyperv.cim.values import INTEGERS, Scalar, Value, in_range, scalar_text


class Instance:
    """Properties of one instance; a name that the class does not publish raises UnknownClass, a wrong type BadValue."""

    __slots__ = ("cim_class", "host", "properties")

    def __init__(self, class_name: str, properties: Mapping[str, Value] | None = None, *, host: str = "") -> None:
        self.cim_class: CimClass = load_schemas().get(class_name)
        self.host = host
        """The host that it came from, as the host calls itself; empty when it came from none."""
        self.properties: dict[str, Value] = {}
        for name, value in (properties or {}).items():
            self[name] = value

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return self.cim_class.name

    def __getitem__(self, name: str) -> Any:
        """A property by its name in any case; None when it has no value."""
        return self.properties.get(self.cim_class.find(name).name)

    def __setitem__(self, name: str, value: Value) -> None:
        """Set a property; one value for an array becomes an array of one."""
        field = self.cim_class.find(name)
        self.properties[field.name] = checked(field, value)

    def __iter__(self) -> Iterator[str]:
        """The names of the properties that were given, None among their values."""
        return iter(self.properties)

    def __repr__(self) -> str:
        """Its class and its keys."""
        return f"<{self.class_name} {dict(self.reference.keys)}>"

    @property
    def reference(self) -> Reference:
        """The reference to it; keys without a value are left out."""
        keys = tuple(
            (name, scalar_text(self.properties[name], self.cim_class.properties[name].type))  # type: ignore[arg-type]
            for name in self.cim_class.keys
            if self.properties.get(name) is not None
        )
        return Reference(self.class_name, keys, self.cim_class.namespace, self.host)

    @property
    def path(self) -> str:
        """Its object path, as other instances name it in their strings (`Parent`, `HostResource`)."""
        return self.reference.path()

    def copy(self, **changes: Value) -> Instance:
        """An instance of the same class with some properties changed."""
        made = Instance(self.class_name, host=self.host)
        made.properties = {
            name: list(value) if isinstance(value, list) else value for name, value in self.properties.items()
        }
        for name, value in changes.items():
            made[name] = value
        return made


def checked(field: Field, value: Value) -> Value:
    """The value as the schema has it: a scalar for a scalar, a list for an array; BadValue when it cannot be."""
    if value is None:
        return None
    if field.array:
        items = value if isinstance(value, list) else [value]
        return [_scalar(field, item) for item in items]
    if isinstance(value, list):
        raise BadValue(f"{field.name} takes one value, not {len(value)}")
    return _scalar(field, value)


def _scalar(field: Field, value: Scalar) -> Scalar:
    if field.type in INTEGERS:
        if isinstance(value, bool) or not isinstance(value, int) or not in_range(value, field.type):
            raise BadValue(f"{field.name} takes a {field.type}, not {value!r}")
    elif field.type == "boolean":
        if not isinstance(value, bool):
            raise BadValue(f"{field.name} takes a boolean, not {value!r}")
    elif field.type == "reference":
        if isinstance(value, Instance):
            return cast("Scalar", value.reference)
        if not isinstance(value, Reference):
            raise BadValue(f"{field.name} takes a reference, not {value!r}")
    elif field.type == "string" and not isinstance(value, str):
        raise BadValue(f"{field.name} takes a string, not {value!r}")
    return value
