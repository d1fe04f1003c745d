"""From typed arguments and instances to the XML that a client sends."""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from federation_hyperv.cim import names
from federation_hyperv.cim.embedded import write_embedded
from federation_hyperv.cim.errors import UnknownClass
from federation_hyperv.cim.instances import Instance, checked
from federation_hyperv.cim.paths import Reference
from federation_hyperv.cim.reading import NIL
from federation_hyperv.cim.schema import CimClass, Field
from federation_hyperv.cim.values import Scalar, Value, duration, scalar_text


def write_arguments(cim_class: CimClass, method: str, arguments: Mapping[str, Value | Instance]) -> ET.Element:
    """The body of an Invoke.  An Instance for a string parameter is embedded; None leaves the parameter out.

    UnknownClass when the method or a parameter does not exist, BadValue when an argument has the wrong type.
    """
    described = cim_class.method(method)
    space = names.resource_uri(cim_class.namespace, cim_class.name)
    body = ET.Element(f"{{{space}}}{method}_INPUT")
    unknown = set(arguments) - set(described.inputs)
    if unknown:
        raise UnknownClass(f"{cim_class.name}.{method} takes no {', '.join(sorted(unknown))}")
    for name, field in described.inputs.items():
        value = arguments.get(name)
        if value is not None:
            _append(body, f"{{{space}}}{name}", field, _embedded(field, value))
    return body


def write_instance(instance: Instance) -> ET.Element:
    """The body of a Put: every property that has a value."""
    space = names.resource_uri(instance.cim_class.namespace, instance.class_name)
    body = ET.Element(f"{{{space}}}{instance.class_name}")
    for name, value in instance.properties.items():
        tag = f"{{{space}}}{name}"
        if value is None:
            ET.SubElement(body, tag, {NIL: "true"})
        else:
            _append(body, tag, instance.cim_class.properties[name], value)
    return body


def _embedded(field: Field, value: Value | Instance) -> Value:
    if field.type != "string":
        return checked(field, value)
    if isinstance(value, Instance):
        value = write_embedded(value)
    elif isinstance(value, list):
        value = [write_embedded(item) if isinstance(item, Instance) else item for item in value]
    return checked(field, value)


def _append(parent: ET.Element, tag: str, field: Field, value: Value) -> None:
    for item in value if isinstance(value, list) else [value]:
        if item is not None:
            _fill(ET.SubElement(parent, tag), field, item)


def _fill(element: ET.Element, field: Field, value: Scalar) -> None:
    if isinstance(value, Reference):
        write_reference(element, value)
    elif isinstance(value, dt.timedelta):
        ET.SubElement(element, f"{{{names.CIM_COMMON}}}Interval").text = duration(value)
    elif isinstance(value, dt.datetime):
        ET.SubElement(element, f"{{{names.CIM_COMMON}}}Datetime").text = value.astimezone(dt.UTC).isoformat()
    elif isinstance(value, Instance):
        element.append(write_instance(value))
    else:
        element.text = scalar_text(value, field.type)


def write_reference(element: ET.Element, reference: Reference) -> None:
    """Fill an element with the endpoint reference of an instance."""
    ET.SubElement(element, f"{{{names.ADDRESSING}}}Address").text = names.ANONYMOUS
    parameters = ET.SubElement(element, f"{{{names.ADDRESSING}}}ReferenceParameters")
    uri = ET.SubElement(parameters, f"{{{names.WSMAN}}}ResourceURI")
    uri.text = names.resource_uri(reference.namespace, reference.class_name)
    selectors = ET.SubElement(parameters, f"{{{names.WSMAN}}}SelectorSet")
    for name, value in reference.keys:
        ET.SubElement(selectors, f"{{{names.WSMAN}}}Selector", Name=name).text = value
