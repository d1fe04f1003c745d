"""WS-Management's envelopes as WinRM writes them: requests read, answers and faults written as text.

Text, because `xsi:type="p:Class_Type"` needs its prefix to stand, and because five hundred machines should be quick.
"""

from __future__ import annotations

import datetime as dt
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

from federation_hyperv.cim import Instance, Reference, load_schemas, names
from federation_hyperv.cim.schema import Field
from federation_hyperv.cim.values import Scalar, Value, duration, scalar_text

_OPEN = (
    f'<s:Envelope xml:lang="en-US" xmlns:s="{names.SOAP}" xmlns:a="{names.ADDRESSING}" xmlns:n="{names.ENUMERATION}"'
    f' xmlns:w="{names.WSMAN}" xmlns:x="{names.TRANSFER}" xmlns:xsi="{names.INSTANCE}" xmlns:cim="{names.CIM_COMMON}">'
)


class Malformed(Exception):
    """The request is no SOAP envelope that can be read."""


class SoapFault(Exception):
    """An answer that is a fault: subcode, words, WinRM's number, and WMI's number where WMI refused."""

    def __init__(
        self, subcode: str, reason: str, *, code: int = 0, provider_code: int = 0, sender: bool = True
    ) -> None:
        self.subcode = subcode
        self.reason = reason
        self.code = code
        self.provider_code = provider_code
        self.sender = sender
        super().__init__(reason)


def not_found() -> SoapFault:
    """No such resource: ERROR_WSMAN 0x80338000, with WMI's WBEM_E_NOT_FOUND."""
    words = "The service cannot find the resource identified by the resource URI and selectors."
    return SoapFault("a:DestinationUnreachable", words, code=0x80338000, provider_code=0x80041002)


def access_denied() -> SoapFault:
    """ERROR_ACCESS_DENIED."""
    return SoapFault("w:AccessDenied", "Access is denied.", code=5)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what is asked, of what, by which keys."""

    action: str
    uri: str
    body: ET.Element | None
    message_id: str
    selectors: Mapping[str, str] = field(default_factory=dict)
    max_envelope_bytes: int = 512_000

    @property
    def verb(self) -> str:
        """The last word of the action: Enumerate, Pull, Get, Put, Identify, or a method."""
        return self.action.rpartition("/")[2]


def read_request(data: bytes) -> Request:
    """Read an envelope; Malformed when it is none."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise Malformed("entities are not read")
    try:
        root = ET.fromstring(data)  # entities were refused above
    except ET.ParseError as error:
        raise Malformed("no XML") from error
    header, body = root.find(f"{{{names.SOAP}}}Header"), root.find(f"{{{names.SOAP}}}Body")
    if body is None:
        raise Malformed("no SOAP body")
    first = next(iter(body), None)
    if first is not None and first.tag == f"{{{names.IDENTITY}}}Identify":
        return Request("Identify", "", first, "")
    if header is None:
        raise Malformed("no SOAP header")
    selectors = {
        item.get("Name", ""): item.text or ""
        for item in header.iterfind(f"{{{names.WSMAN}}}SelectorSet/{{{names.WSMAN}}}Selector")
    }
    return Request(
        action=_text(header, names.ADDRESSING, "Action"), uri=_text(header, names.WSMAN, "ResourceURI"), body=first,
        message_id=_text(header, names.ADDRESSING, "MessageID"), selectors=selectors,
        max_envelope_bytes=int(_text(header, names.WSMAN, "MaxEnvelopeSize") or 512_000),
    )  # fmt: skip


def _text(header: ET.Element, space: str, name: str) -> str:
    return (header.findtext(f"{{{space}}}{name}") or "").strip()


def envelope(request: Request, body: str, *, action: str = "") -> bytes:
    """The answer to a request."""
    head = (
        f"<s:Header><a:Action>{escape(action or request.action + 'Response')}</a:Action>"
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{names.ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(request.message_id)}</a:RelatesTo></s:Header>"
    )
    return f"{_OPEN}{head}<s:Body>{body}</s:Body></s:Envelope>".encode()


def fault(request: Request, error: SoapFault, machine: str) -> bytes:
    """A fault as WinRM writes it, WMI's own error inside."""
    detail = ""
    if error.code or error.provider_code:
        inner = ""
        if error.provider_code:
            inner = (
                f'<f:ProviderFault provider="WMI Provider" path="%systemroot%\\system32\\WsmWmiPl.dll">'
                f'<f:WSManFault Code="{error.provider_code}" Machine={quoteattr(machine)}>'
                f"<f:Message>{escape(error.reason)}</f:Message></f:WSManFault></f:ProviderFault>"
            )
        detail = (
            f'<s:Detail><f:WSManFault xmlns:f="{names.FAULT}" Code="{error.code}" Machine={quoteattr(machine)}>'
            f"<f:Message>{inner or escape(error.reason)}</f:Message></f:WSManFault></s:Detail>"
        )
    kind = "Sender" if error.sender else "Receiver"
    body = (
        f"<s:Fault><s:Code><s:Value>s:{kind}</s:Value><s:Subcode><s:Value>{error.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{escape(error.reason)}</s:Text></s:Reason>{detail}</s:Fault>'
    )
    return envelope(request, body, action=f"{names.WSMAN.rsplit('/', 1)[0]}/fault")


def identity(version: str) -> bytes:
    """The answer to Identify, in WinRM's words."""
    return (
        f'<s:Envelope xml:lang="en-US" xmlns:s="{names.SOAP}"><s:Header/><s:Body>'
        f'<wsmid:IdentifyResponse xmlns:wsmid="{names.IDENTITY}">'
        f"<wsmid:ProtocolVersion>{names.WSMAN}</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
        f"<wsmid:ProductVersion>{escape(version)}</wsmid:ProductVersion>"
        "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
    ).encode()


def instance_text(instance: Instance, only: tuple[str, ...] = ()) -> str:
    """An instance: every property in the schema's order, null ones as nil, empty arrays not at all.

    With ``only`` it is the XmlFragment that WinRM makes of a query for some properties.
    """
    opening, closing, fields = _shape(instance.class_name, tuple(name.lower() for name in only))
    held = instance.properties
    parts = [
        nil if (value := held.get(item.name)) is None else _property_text(item, value) for item, nil in fields
    ]  # fmt: skip
    return f"{opening}{''.join(parts)}{closing}"


@lru_cache(maxsize=1024)
def _shape(class_name: str, only: tuple[str, ...]) -> tuple[str, str, tuple[tuple[Field, str], ...]]:
    """What is the same of all instances of a class: the tags around them, and each property with its text for null."""
    cim_class = load_schemas().get(class_name)
    space = names.resource_uri(cim_class.namespace, cim_class.name)
    fields = tuple(
        (item, _property_text(item, None)) for name, item in cim_class.folded.items() if not only or name in only
    )
    if only:
        return f'<w:XmlFragment xmlns:p="{space}">', "</w:XmlFragment>", fields
    name = cim_class.name
    return f'<p:{name} xmlns:p="{space}" xsi:type="p:{name}_Type">', f"</p:{name}>", fields


def output_text(cim_class_uri: str, method: str, fields: Mapping[str, Field], outputs: Mapping[str, Value]) -> str:
    """The outputs of a method, its ReturnValue last."""
    parts = [_property_text(item, outputs.get(name)) for name, item in fields.items() if outputs.get(name) is not None]
    code = int(outputs["ReturnValue"])  # type: ignore[arg-type]
    return (
        f'<p:{method}_OUTPUT xmlns:p="{cim_class_uri}">{"".join(parts)}'
        f"<p:ReturnValue>{code}</p:ReturnValue></p:{method}_OUTPUT>"
    )


def _property_text(item: Field, value: Value) -> str:
    if value is None:
        return "" if item.array else f'<p:{item.name} xsi:nil="true"/>'
    values = value if isinstance(value, list) else [value]
    return "".join(_one(item, one) for one in values)


def _one(item: Field, value: Scalar) -> str:
    name = item.name
    if isinstance(value, Reference):
        return f"<p:{name}>{reference_text(value)}</p:{name}>"
    if isinstance(value, dt.datetime):
        moment = value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        return f"<p:{name}><cim:Datetime>{moment}</cim:Datetime></p:{name}>"
    if isinstance(value, dt.timedelta):
        return f"<p:{name}><cim:Interval>{duration(value)}</cim:Interval></p:{name}>"
    if isinstance(value, Instance):
        cim_class = value.cim_class
        space = names.resource_uri(cim_class.namespace, cim_class.name)
        inner = "".join(
            _property_text(item, value.properties.get(key)).replace("<p:", "<q:").replace("</p:", "</q:")
            for key, item in cim_class.properties.items()
        )
        return f'<p:{name} xmlns:q="{space}" xsi:type="q:{cim_class.name}_Type">{inner}</p:{name}>'
    return f"<p:{name}>{escape(scalar_text(value, item.type))}</p:{name}>"


def reference_text(reference: Reference) -> str:
    """An endpoint reference without its outer element."""
    selectors = "".join(
        f"<w:Selector Name={quoteattr(name)}>{escape(value)}</w:Selector>" for name, value in reference.keys
    )
    return (
        f"<a:Address>{names.ANONYMOUS}</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{names.resource_uri(reference.namespace, reference.class_name)}</w:ResourceURI>"
        f'<w:SelectorSet><w:Selector Name="__cimnamespace">{reference.namespace}</w:Selector>{selectors}</w:SelectorSet>'
        "</a:ReferenceParameters>"
    )
