"""One Hyper-V host: queries that may be repeated, and calls that are sent once."""

from __future__ import annotations

import contextlib
import logging
import re
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from federation_hyperv.cim import CIMV2, VIRTUALIZATION, Instance, Reference, Value, load_schemas, names
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.cim.errors import UnknownClass
from federation_hyperv.cim.reading import local_name, read_fields, read_instance
from federation_hyperv.cim.schema import Field, fold
from federation_hyperv.cim.writing import write_arguments, write_instance
from federation_hyperv.wsman.errors import CallFailed, HostUnreachable, LostAnswer, WsmanFault
from federation_hyperv.wsman.login import Login
from federation_hyperv.wsman.transport import Connection

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_IDLE_CONNECTIONS = 8
_PULL_ITEMS = 32_000
"""What WinRM's MaxBatchItems allows (MS-WSMV 2.2.4.10); the envelope's size is what bounds an answer."""
_SELECTED = re.compile(r"\s*SELECT\s[^'\"{]*?\sFROM\s+(\w+)", re.IGNORECASE)
_ENUMERATE = f"{names.ENUMERATION}/Enumerate"
_PULL = f"{names.ENUMERATION}/Pull"
_GET = f"{names.TRANSFER}/Get"
_PUT = f"{names.TRANSFER}/Put"
_RETURN = Field("ReturnValue", "uint32")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a host says of itself."""

    vendor: str
    version: str


class Host:
    """A host by its login.  Safe for several threads: each call takes an idle connection or opens one.

    Queries (`get`, `query`, `associators`, `enumerate_class`) are tried up to ``attempts`` times; `invoke` and `put`
    are sent once, except when the connection never stood.  Errors are those of `federation_hyperv.wsman.errors`.
    """

    def __init__(self, login: Login, *, name: str = "", attempts: int = 3) -> None:
        self.login = login
        self.name = name or login.address
        self._attempts = attempts
        self._idle: deque[Connection] = deque(maxlen=_IDLE_CONNECTIONS)
        self._computer_name = ""

    def computer_name(self) -> str:
        """What the host calls itself, as its object paths begin; asked once, then known.

        From then on instances bear it, so that `Instance.path` is what Hyper-V's own strings hold.
        """
        if not self._computer_name:
            found = self.query("SELECT Name FROM Win32_ComputerSystem", namespace=CIMV2)
            self._computer_name = str(found[0]["Name"])
        return self._computer_name

    def identify(self) -> Identity:
        """Ask the host who it is."""
        answer = self._repeated(lambda connection: connection.identify())
        vendor = answer.findtext(f".//{{{names.IDENTITY}}}ProductVendor", "")
        return Identity(vendor, answer.findtext(f".//{{{names.IDENTITY}}}ProductVersion", ""))

    def get(self, reference: Reference) -> Instance:
        """One instance; InstanceNotFound when it is not there."""
        uri = names.resource_uri(reference.namespace, reference.class_name)
        body = self._repeated(lambda connection: connection.send(_GET, uri, None, dict(reference.keys)))
        return self._instance(next(iter(body)))

    def query(self, wql: str, *, namespace: str = VIRTUALIZATION) -> list[Instance]:
        """All instances that a WQL query selects (`SELECT` or `ASSOCIATORS OF`)."""
        return self._repeated(lambda connection: list(self._enumerate(connection, namespace, "*", wql)))

    def enumerate_class(self, class_name: str) -> list[Instance]:
        """All instances of a class and of those derived from it."""
        namespace = load_schemas().get(class_name).namespace
        return self._repeated(lambda connection: list(self._enumerate(connection, namespace, class_name, None)))

    def associators(self, reference: Reference, *, association: str = "", result: str = "") -> list[Instance]:
        """What is associated with an instance, of a result class by an association class where given."""
        where = " ".join(
            part for part in (
                f"AssocClass = {association}" if association else "", f"ResultClass = {result}" if result else "",
            ) if part
        )  # fmt: skip
        local = Reference(reference.class_name, reference.keys, reference.namespace)
        relative = local.path().partition(":")[2]
        wql = f"ASSOCIATORS OF {{{relative}}}" + (f" WHERE {where}" if where else "")
        return self.query(wql, namespace=reference.namespace)

    def invoke(self, target: Reference, method: str, **arguments: Value) -> dict[str, Value]:
        """Call a method, once; its outputs by name, ``ReturnValue`` and ``Job`` among them.

        CallFailed when it returns anything but 0 or 4096 (follow ``Job`` then, see `follow`).  LostAnswer when nobody
        knows whether it took effect.
        """
        cim_class = load_schemas().get(target.class_name)
        described = cim_class.method(method)
        uri = names.resource_uri(target.namespace, cim_class.name)
        request = write_arguments(cim_class, method, arguments)
        body = self._once(lambda connection: connection.send(f"{uri}/{method}", uri, request, dict(target.keys)))
        answer = next(iter(body), None)
        if answer is None or local_name(answer) != f"{method}_OUTPUT":
            raise WsmanFault(f"{method}: the host answered with something else")
        outputs = read_fields(answer, fold({**described.outputs, "ReturnValue": _RETURN}))
        code = outputs.get("ReturnValue")
        if not isinstance(code, int):
            raise WsmanFault(f"{method}: the host answered without a ReturnValue")
        if code not in {ReturnCode.COMPLETED, ReturnCode.JOB_STARTED}:
            raise CallFailed(f"{cim_class.name}.{method}", code)
        return outputs

    def put(self, instance: Instance) -> None:
        """Write the properties of an instance that may be written."""
        reference = instance.reference
        uri = names.resource_uri(reference.namespace, reference.class_name)
        self._once(lambda connection: connection.send(_PUT, uri, write_instance(instance), dict(reference.keys)))

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are given back."""
        while self._idle:
            self._idle.pop().close()

    def _enumerate(
        self, connection: Connection, namespace: str, class_name: str, wql: str | None
    ) -> Iterator[Instance]:
        uri = names.resource_uri(namespace, class_name)
        named = _SELECTED.match(wql or "")
        selected = named[1] if named else ""
        body = connection.send(_ENUMERATE, uri, _enumerate_body(wql))
        while True:
            context, ended = "", False
            for part in next(iter(body), ()):
                name = local_name(part)
                if name == "Items":
                    yield from (self._instance(item, selected) for item in part if _is_published(item))
                elif name == "EnumerationContext":
                    context = part.text or ""
                ended = ended or name == "EndOfSequence"
            if ended or not context:
                return
            pull = ET.Element(f"{{{names.ENUMERATION}}}Pull")
            ET.SubElement(pull, f"{{{names.ENUMERATION}}}EnumerationContext").text = context
            ET.SubElement(pull, f"{{{names.ENUMERATION}}}MaxElements").text = str(_PULL_ITEMS)
            body = connection.send(_PULL, uri, pull)

    def _instance(self, element: ET.Element, selected: str = "") -> Instance:
        return read_instance(element, self._computer_name, selected)

    def _repeated(self, ask: Callable[[Connection], _T]) -> _T:
        return self._try(ask, (HostUnreachable, LostAnswer))

    def _once(self, ask: Callable[[Connection], _T]) -> _T:
        return self._try(ask, (HostUnreachable,))

    def _try(self, ask: Callable[[Connection], _T], again: tuple[type[Exception], ...]) -> _T:
        retrying = Retrying(
            stop=stop_after_attempt(self._attempts), wait=wait_random_exponential(multiplier=0.1, max=2.0),
            retry=retry_if_exception_type(again), reraise=True,
        )  # fmt: skip
        answer: _T = retrying(self._with_connection, ask)
        return answer

    def _with_connection(self, ask: Callable[[Connection], _T]) -> _T:
        with self._connection() as connection:
            return ask(connection)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self.login)
        try:
            yield connection
        except (HostUnreachable, LostAnswer):
            connection.close()
            raise
        finally:
            if connection.is_usable and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
            else:
                connection.close()


def _is_published(element: ET.Element) -> bool:
    """Whether the class of an item is in the schemas; a query for a class answers with newer ones derived from it, too."""
    if local_name(element) == "XmlFragment":
        return True
    try:
        load_schemas().get(local_name(element))
    except UnknownClass:
        _log.debug("an instance of %s is left out: its class is not in the schemas", local_name(element))
        return False
    return True


def _enumerate_body(wql: str | None) -> ET.Element:
    body = ET.Element(f"{{{names.ENUMERATION}}}Enumerate")
    ET.SubElement(body, f"{{{names.WSMAN}}}OptimizeEnumeration")
    ET.SubElement(body, f"{{{names.WSMAN}}}MaxElements").text = str(_PULL_ITEMS)
    if wql is not None:
        ET.SubElement(body, f"{{{names.WSMAN}}}Filter", Dialect=names.WQL).text = wql
    return body
