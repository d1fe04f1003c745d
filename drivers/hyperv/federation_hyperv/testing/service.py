"""What a simulated host answers: Identify, Enumerate, Pull, Release, Get, Put and methods."""

from __future__ import annotations

import itertools
import time
import uuid
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from federation_hyperv.cim import Instance, Reference, load_schemas, names
from federation_hyperv.cim.errors import BadValue, CimError, UnknownClass
from federation_hyperv.cim.paths import parse_path
from federation_hyperv.cim.reading import local_name, read_fields, read_instance
from federation_hyperv.cim.schema import fold
from federation_hyperv.testing import methods, soap, wql
from federation_hyperv.testing.faults import FaultKind
from federation_hyperv.testing.host import SimulatedHost
from federation_hyperv.testing.soap import Request, SoapFault

VERSION = "OS: 10.0.20348 SP: 0.0 Stack: 3.0"
_LEAST_ENVELOPE_BYTES = 8192
_CONTEXTS = 1000
_CONTEXT_SECONDS = 120.0
_WBEM_INVALID_CLASS, _WBEM_INVALID_QUERY, _WBEM_INVALID_PARAMETER = 0x80041010, 0x80041017, 0x80041008
_CANNOT_PROCESS_FILTER = 0x8033801A


@dataclass(slots=True)
class _Context:
    """An enumeration that is not at its end: the items still to come, as text."""

    items: Iterator[str]
    last_used: float
    held: str = ""


class Service:
    """Answers of one host; the caller holds the cluster's lock."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._contexts: OrderedDict[str, _Context] = OrderedDict()
        self.requests: dict[str, int] = {}
        """How many requests of each kind came, for tests that count."""

    def answer(self, request: Request) -> bytes:
        """The answer's envelope; SoapFault when it is a fault."""
        self.requests[request.verb] = self.requests.get(request.verb, 0) + 1
        request = replace(request, max_envelope_bytes=self._most_bytes(request))
        if self._host.faults.take(self._host.name, request.verb, FaultKind.DENY):
            raise soap.access_denied()
        try:
            return self._dispatch(request)
        except wql.WqlError as error:
            raise SoapFault(
                "w:CannotProcessFilter", f"The filter is not valid: {error}", code=_CANNOT_PROCESS_FILTER,
                provider_code=_WBEM_INVALID_QUERY,
            ) from error  # fmt: skip
        except UnknownClass as error:
            raise SoapFault(
                "a:DestinationUnreachable", str(error), code=0x80338000, provider_code=_WBEM_INVALID_CLASS
            ) from error
        except CimError as error:
            raise SoapFault("w:InvalidParameter", str(error), code=0x80070057,
                            provider_code=_WBEM_INVALID_PARAMETER) from error  # fmt: skip

    def _most_bytes(self, request: Request) -> int:
        """What an answer may have: what the client takes, or less where the host sends less (MS-WSMV 3.1.4.1.7)."""
        if request.max_envelope_bytes < _LEAST_ENVELOPE_BYTES:
            raise SoapFault("w:EncodingLimit", f"MaxEnvelopeSize is less than {_LEAST_ENVELOPE_BYTES} octets.")
        return min(request.max_envelope_bytes, self._host.facts.max_envelope_bytes)

    def _dispatch(self, request: Request) -> bytes:
        if request.action == "Identify":
            return soap.identity(VERSION)
        space, _, verb = request.action.rpartition("/")
        answers = {
            (names.ENUMERATION, "Enumerate"): self._enumerate,
            (names.ENUMERATION, "Pull"): self._pull,
            (names.ENUMERATION, "Release"): self._release,
            (names.TRANSFER, "Get"): self._get,
            (names.TRANSFER, "Put"): self._put,
        }
        if answer := answers.get((space, verb)):
            return answer(request)
        if request.action.startswith(names.WMI):
            return self._invoke(request, verb)
        raise SoapFault("a:ActionNotSupported", f"The action {request.action} is not supported.")

    def _get(self, request: Request) -> bytes:
        return soap.envelope(request, soap.instance_text(self._target(request)))

    def _release(self, request: Request) -> bytes:
        self._contexts.pop(_context_id(request), None)
        return soap.envelope(request, "")

    def _enumerate(self, request: Request) -> bytes:
        body = request.body if request.body is not None else ET.Element("none")
        mode = body.findtext(f"{{{names.WSMAN}}}EnumerationMode", "").strip()
        context = _Context(self._texts(request, body, mode), time.monotonic())
        identifier = f"uuid:{str(uuid.uuid4()).upper()}"
        optimised = body.find(f"{{{names.WSMAN}}}OptimizeEnumeration") is not None
        items, ended = "", False
        if optimised:
            limit = int(body.findtext(f"{{{names.WSMAN}}}MaxElements", "").strip() or 1)
            items, ended = _take(context, limit, request.max_envelope_bytes)
        if not ended:
            self._keep(identifier, context)
        inner = f"<n:EnumerationContext>{'' if ended else identifier}</n:EnumerationContext>"
        if optimised:
            inner += f"<w:Items>{items}</w:Items>" + ("<w:EndOfSequence/>" if ended else "")
        return soap.envelope(request, f"<n:EnumerateResponse>{inner}</n:EnumerateResponse>")

    def _pull(self, request: Request) -> bytes:
        identifier = _context_id(request)
        context = self._contexts.get(identifier)
        if context is None:
            raise SoapFault("n:InvalidEnumerationContext", "The supplied enumeration context is invalid.")
        body = request.body if request.body is not None else ET.Element("none")
        limit = int(body.findtext(f"{{{names.ENUMERATION}}}MaxElements", "").strip() or 1)
        items, ended = _take(context, max(limit, 1), request.max_envelope_bytes)
        context.last_used = time.monotonic()
        if ended:
            del self._contexts[identifier]
        inner = "" if ended else f"<n:EnumerationContext>{identifier}</n:EnumerationContext>"
        inner += f"<n:Items>{items}</n:Items>" + ("<n:EndOfSequence/>" if ended else "")
        return soap.envelope(request, f"<n:PullResponse>{inner}</n:PullResponse>")

    def _keep(self, identifier: str, context: _Context) -> None:
        old = [key for key, item in self._contexts.items() if time.monotonic() - item.last_used > _CONTEXT_SECONDS]
        for key in old:
            del self._contexts[key]
        while len(self._contexts) >= _CONTEXTS:
            self._contexts.popitem(last=False)
        self._contexts[identifier] = context

    def _texts(self, request: Request, body: ET.Element, mode: str) -> Iterator[str]:
        found, fields = self._instances(request, body)
        if mode == "EnumerateEPR":
            return (
                f"<a:EndpointReference>{soap.reference_text(item.reference)}</a:EndpointReference>" for item in found
            )
        if mode == "EnumerateObjectAndEPR":
            return (
                f"<w:Item>{soap.instance_text(item)}"
                f"<a:EndpointReference>{soap.reference_text(item.reference)}</a:EndpointReference></w:Item>"
                for item in found
            )
        return (soap.instance_text(item, fields) for item in found)

    def _instances(self, request: Request, body: ET.Element) -> tuple[list[Instance], tuple[str, ...]]:
        namespace, class_name = names.split_resource_uri(request.uri)
        given = body.find(f"{{{names.WSMAN}}}Filter")
        if given is None:
            given = body.find(f"{{{names.ENUMERATION}}}Filter")
        if given is None or not class_name:
            query: wql.Query = wql.Select((), class_name, lambda _instance: True)
        elif given.get("Dialect", names.WQL) == names.WQL:
            query = wql.parse(given.text or "")
        elif given.get("Dialect") == names.SELECTOR_FILTER:
            query = _by_selectors(class_name, given)
        elif given.get("Dialect") == names.ASSOCIATION_FILTER:
            query = _by_association(given)
        else:
            raise SoapFault("n:FilterDialectRequestedUnavailable", "The filter dialect is not supported.")
        if isinstance(query, wql.Related):
            try:
                return self._host.repository.related(query), ()
            except LookupError as error:
                raise soap.not_found() from error
        _check_fields(query)
        found = self._host.repository.select(query)
        return [item for item in found if item.cim_class.namespace == namespace.lower()], query.fields

    def _target(self, request: Request) -> Instance:
        namespace, class_name = names.split_resource_uri(request.uri)
        if not class_name or not load_schemas().knows(class_name):
            raise UnknownClass(f"there is no class {class_name or request.uri}")
        keys = tuple((name, value) for name, value in request.selectors.items() if name != "__cimnamespace")
        if class_name.lower() in {"cim_datafile", "win32_directory"}:
            file = self._host.files.data_file(dict(keys).get("Name", ""))
            found = file if file is not None and file.class_name.lower() == class_name.lower() else None
        elif keys:
            found = self._host.repository.find(Reference(class_name, keys, namespace))
        else:
            several = list(self._host.repository.all(class_name))
            found = several[0] if len(several) == 1 else None
        if found is None:
            raise soap.not_found()
        return self._host.repository.fresh(found)

    def _put(self, request: Request) -> bytes:
        target = self._host.repository.find(self._target(request).reference)
        if target is None or request.body is None:
            raise soap.not_found()
        if not target.class_name.endswith("ServiceSettingData"):
            raise SoapFault("a:ActionNotSupported", "Provider is not capable of the attempted operation.",
                            code=0x80338000, provider_code=0x80041024)  # fmt: skip
        given = read_instance(request.body)
        for name, value in given.properties.items():
            if name not in target.cim_class.keys:
                target[name] = value
        self._host.record(f"node:{self._host.name}", "put", target.class_name, properties=sorted(given.properties))
        return soap.envelope(request, soap.instance_text(target))

    def _invoke(self, request: Request, method: str) -> bytes:
        target = self._target(request)
        held = self._host.repository.find(target.reference) or target
        described = held.cim_class.methods.get(method)
        if described is None:
            raise SoapFault("a:ActionNotSupported", f"{held.class_name} has no method {method}.",
                            code=0x80338000, provider_code=0x80041055)  # fmt: skip
        body = request.body if request.body is not None else ET.Element("none")
        known = {name.lower() for name in described.inputs}
        unknown = [local_name(child) for child in body if local_name(child).lower() not in known]
        if unknown:
            raise BadValue(f"{method} takes no {', '.join(unknown)}")
        if fault := self._host.faults.take(self._host.name, method, FaultKind.RETURN):
            outputs: dict[str, object] = {"ReturnValue": fault.code}
        else:
            outputs = methods.call(self._host, held, method, dict(read_fields(body, fold(described.inputs))))
        uri = names.resource_uri(held.cim_class.namespace, held.class_name)
        text = soap.output_text(uri, method, described.outputs, outputs)  # type: ignore[arg-type]
        answer = soap.envelope(request, text)
        if len(answer) > request.max_envelope_bytes:
            raise SoapFault("w:EncodingLimit", f"The answer of {method} is larger than MaxEnvelopeSize allows.")
        return answer


def _check_fields(query: wql.Select) -> None:
    """WMI refuses a query for properties that the class does not have; of abstract classes the schemas know none."""
    if query.fields and load_schemas().has_instances(query.class_name):
        asked = load_schemas().get(query.class_name)
        for name in query.fields:
            if not name.startswith("__") and name.rpartition(".")[2].lower() not in asked.folded:
                raise wql.WqlError(f"{asked.name} has no property {name}")


def _take(context: _Context, limit: int, max_bytes: int) -> tuple[str, bool]:
    """Up to ``limit`` items that fit the client's envelope, and whether the sequence is at its end."""
    parts: list[str] = []
    size = 2048
    items = itertools.chain([context.held] if context.held else [], context.items)
    context.held = ""
    for text in items:
        if len(parts) >= limit or (parts and size + len(text) > max_bytes):
            context.held = text
            return "".join(parts), False
        parts.append(text)
        size += len(text)
    return "".join(parts), True


def _context_id(request: Request) -> str:
    if request.body is None:
        return ""
    return request.body.findtext(f"{{{names.ENUMERATION}}}EnumerationContext", "").strip()


def _by_selectors(class_name: str, given: ET.Element) -> wql.Query:
    wanted = {item.get("Name", ""): item.text or "" for item in given.iter(f"{{{names.WSMAN}}}Selector")}
    return wql.Select(
        (), class_name,
        lambda instance: all(str(instance[name] or "").lower() == value.lower() for name, value in wanted.items()),
    )  # fmt: skip


def _by_association(given: ET.Element) -> wql.Query:
    """DSP0227, 16: AssociatedInstances or AssociationInstances of an object given by its reference."""
    kind = next((item for item in given.iter() if local_name(item).startswith(("Associated", "Association"))), None)
    if kind is None:
        raise wql.WqlError("the association filter names nothing")
    texts = {local_name(item): (item.text or "").strip() for item in kind.iter()}
    uri = next((item.text or "" for item in kind.iter(f"{{{names.WSMAN}}}ResourceURI")), "")
    namespace, class_name = names.split_resource_uri(uri)
    keys = tuple(
        (item.get("Name", ""), item.text or "") for item in kind.iter(f"{{{names.WSMAN}}}Selector")
        if item.get("Name") != "__cimnamespace"
    )  # fmt: skip
    source = Reference(class_name, keys, namespace) if class_name else parse_path(texts.get("Object", ""))
    references = local_name(kind) == "AssociationInstances"
    return wql.Related(
        source, references, texts.get("AssociationClassName", ""), texts.get("ResultClassName", ""),
        texts.get("Role", ""), texts.get("ResultRole", ""),
    )  # fmt: skip
