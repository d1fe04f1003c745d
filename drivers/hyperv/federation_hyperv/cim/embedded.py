"""Instances inside strings: the INSTANCE element of CIM-XML (DSP0201), which Hyper-V's methods take as parameters.

What Windows itself writes (`GetText(1)`, `MI_Serializer`) carries a TYPE on each PROPERTY; ours does too.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from federation_hyperv.cim.errors import BadValue
from federation_hyperv.cim.instances import Instance
from federation_hyperv.cim.schema import Field
from federation_hyperv.cim.values import Scalar, Value, read_scalar, scalar_text

LIMIT_CHARACTERS = 4 << 20


def write_embedded(instance: Instance) -> str:
    """The INSTANCE element of an instance; properties that are None are left out, so the host keeps its own."""
    root = ET.Element("INSTANCE", CLASSNAME=instance.class_name)
    for name, value in instance.properties.items():
        field = instance.cim_class.properties[name]
        kind = "string" if field.type in {"reference", "object"} else field.type
        if value is None:
            continue
        if isinstance(value, list):
            holder = ET.SubElement(root, "PROPERTY.ARRAY", NAME=name, TYPE=kind)
            array = ET.SubElement(holder, "VALUE.ARRAY")
            for item in value:
                ET.SubElement(array, "VALUE").text = _text(item, field)
        else:
            holder = ET.SubElement(root, "PROPERTY", NAME=name, TYPE=kind)
            ET.SubElement(holder, "VALUE").text = _text(value, field)
    return ET.tostring(root, encoding="unicode")


def _text(value: Scalar, field: Field) -> str:
    return write_embedded(value) if isinstance(value, Instance) else scalar_text(value, field.type)


def read_embedded(text: str) -> Instance:
    """Read an INSTANCE element; BadValue when it is none or too long, UnknownClass when its class is not known."""
    if len(text) > LIMIT_CHARACTERS or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadValue("an embedded instance is too long or declares entities")
    try:
        root = ET.fromstring(text)  # noqa: S314  # entities were refused above
    except ET.ParseError as error:
        raise BadValue("an embedded instance is no XML") from error
    element = root if root.tag == "INSTANCE" else root.find(".//INSTANCE")
    if element is None or "CLASSNAME" not in element.attrib:
        raise BadValue("an embedded instance is no INSTANCE element")
    instance = Instance(element.attrib["CLASSNAME"])
    for child in element:
        if child.tag in {"PROPERTY", "PROPERTY.ARRAY", "PROPERTY.REFERENCE"}:
            name = child.attrib.get("NAME", "")
            if name.startswith("__"):
                continue
            instance[name] = _value(child, instance.cim_class.find(name))
    return instance


def _value(element: ET.Element, field: Field) -> Value:
    if element.tag == "PROPERTY.ARRAY":
        items = element.findall("VALUE.ARRAY/VALUE")
        if element.find("VALUE.ARRAY") is None:
            return None
        found = [_one(item.text or "", field) for item in items]
        return found if field.array else (found[0] if found else None)
    item = element.find("VALUE")
    if item is None:
        return None
    value = _one(item.text or "", field)
    return [value] if field.array else value


def _one(text: str, field: Field) -> Scalar:
    if field.type == "object" or text.lstrip().startswith("<INSTANCE"):
        return read_embedded(text)
    return read_scalar(text, field.type)
