"""From WS-Management's XML to typed instances, references and arguments.

The XML carries no types: an array of one element looks like a scalar, a number like a string.  The schema decides.
A null property is `xsi:nil`, a null or empty array is simply not there.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from functools import lru_cache

from federation_hyperv.cim import names
from federation_hyperv.cim.embedded import read_embedded
from federation_hyperv.cim.errors import BadValue
from federation_hyperv.cim.instances import Instance
from federation_hyperv.cim.paths import Reference
from federation_hyperv.cim.schema import CimClass, Field, load_schemas
from federation_hyperv.cim.values import Scalar, Value, read_scalar

NIL = f"{{{names.INSTANCE}}}nil"
_ADDRESSES = tuple(
    f"{{{space}}}ReferenceParameters" for space in (names.ADDRESSING, "http://www.w3.org/2005/08/addressing")
)


def local_name(element: ET.Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def read_instance(element: ET.Element, host: str = "", selected: str = "") -> Instance:
    """Read an instance; what the schema does not know is left out, as an update of Windows may add properties.

    A query for some properties is answered with an XmlFragment that does not name its class: it is ``selected``, the class
    that was asked for, or else the one whose namespace the properties bear.
    """
    name = local_name(element)
    if name == "XmlFragment":
        first = next(iter(element), None)
        name = selected
        if not name and first is not None:
            name = names.split_resource_uri(str(first.tag)[1:].partition("}")[0])[1]
    instance = Instance(name, host=host)
    instance.properties.update(read_fields(element, instance.cim_class.folded))
    return instance


def read_fields(element: ET.Element, fields: Mapping[str, Field]) -> dict[str, Value]:
    """The children of an element by the fields (``fold``) that they are; children of other names are left out."""
    found: dict[str, Value] = {}
    for child in element:
        field = fields.get(_folded_name(str(child.tag)))
        if field is None:
            continue
        if child.get(NIL, "false") in {"true", "1"}:
            found.setdefault(field.name, None)
            continue
        value = _scalar(child, field)
        if field.array:
            items = found.get(field.name)
            found[field.name] = [*items, value] if isinstance(items, list) else [value]
        else:
            found[field.name] = value
    return found


@lru_cache(maxsize=8192)
def _folded_name(tag: str) -> str:
    """An element's name in lower case."""
    return tag.rpartition("}")[2].lower()


def _scalar(element: ET.Element, field: Field) -> Scalar:
    if field.type == "reference":
        return read_reference(element)
    if field.type != "object" and not len(element):
        text = element.text or ""
        return text if field.type == "string" else read_scalar(text, field.type)
    children = list(element)
    if field.type == "datetime" and children:
        return read_scalar(children[0].text or "", "datetime")
    if field.type == "object" or (children and field.type == "string"):
        if children and local_name(element) != local_name(children[0]) and _names_a_class(children[0]):
            return read_instance(children[0])
        return _inline_object(element, field)
    return read_scalar(element.text or "", field.type)


def _inline_object(element: ET.Element, field: Field) -> Instance:
    """An embedded object whose class stands in xsi:type, or else in the schema; a CIM-XML string is read as well."""
    if not list(element) and (element.text or "").strip():
        return read_embedded(element.text or "")
    typed = element.get(f"{{{names.INSTANCE}}}type", "").rpartition(":")[2].removesuffix("_Type")
    cim_class = _known(typed) or _known(field.class_name) or _known(field.class_name.removesuffix("Base"))
    if cim_class is None:
        raise BadValue(f"{field.name} holds an object of no known class")
    instance = Instance(cim_class.name)
    instance.properties.update(read_fields(element, cim_class.folded))
    return instance


def _names_a_class(element: ET.Element) -> bool:
    return _known(local_name(element)) is not None


def _known(name: str) -> CimClass | None:
    schemas = load_schemas()
    return schemas.get(name) if schemas.has_instances(name) else None


def read_reference(element: ET.Element) -> Reference:
    """Read an endpoint reference, or an object path as text; BadValue when it is neither."""
    parameters = next((found for tag in _ADDRESSES if (found := element.find(f".//{tag}")) is not None), None)
    if parameters is None:
        if (element.text or "").strip():
            return read_path(element.text or "")
        raise BadValue(f"{local_name(element)} holds no endpoint reference")
    uri = parameters.findtext(f"{{{names.WSMAN}}}ResourceURI", "").strip()
    namespace, class_name = names.split_resource_uri(uri)
    keys: list[tuple[str, str]] = []
    for selector in parameters.iter(f"{{{names.WSMAN}}}Selector"):
        name = selector.get("Name", "")
        if name != "__cimnamespace":
            keys.append((name, selector.text or ""))
    if not class_name:
        raise BadValue(f"{uri!r} is no resource of WMI")
    return Reference(class_name, tuple(keys), namespace)


def read_path(text: str) -> Reference:
    """Read an object path."""
    found = read_scalar(text.strip(), "reference")
    if not isinstance(found, Reference):  # read_scalar answers a reference for this type
        raise BadValue(f"{text!r} is no object path")
    return found
