"""A stand-in for PyMI's `wmi` module: what os-win calls of it, over WS-Management instead of Windows' own library.

Method outputs come as PyMI gives them: sorted by name, ReturnValue among them, references as object paths.
Where to connect stands in the environment, set by the test that starts the scenario.
"""

from __future__ import annotations

import os
from typing import Any

from federation_hyperv.cim import CIMV2, Instance, Reference, load_schemas
from federation_hyperv.cim.embedded import read_embedded, write_embedded
from federation_hyperv.cim.errors import CimError
from federation_hyperv.cim.paths import parse_path
from federation_hyperv.cim.values import INTEGERS
from federation_hyperv.wsman import CallFailed, Host, InstanceNotFound, Login, TransportError

WBEM_E_NOT_FOUND = 0x80041002
_HOSTS: dict[str, Host] = {}


class ComError(Exception):
    """What os-win reads an HRESULT from: `excepinfo[5]`."""

    def __init__(self, hresult: int) -> None:
        self.hresult = hresult
        self.excepinfo = (None, None, None, None, None, hresult - (1 << 32) if hresult >= 1 << 31 else hresult)
        super().__init__(hex(hresult))


class x_wmi(Exception):  # noqa: N801  # PyMI's name
    """An error of WMI."""

    def __init__(self, info: str = "", com_error: ComError | None = None) -> None:
        self.info = info
        self.com_error = com_error or ComError(0x80041001)
        super().__init__(info)


class x_wmi_timed_out(x_wmi):  # noqa: N801  # PyMI's name
    """No event came in time."""


def _host() -> Host:
    if "host" not in _HOSTS:
        host = Host(
            Login(
                address="127.0.0.1",
                port=int(os.environ["HYPERV_PORT"]),
                tls=bool(os.environ.get("HYPERV_CA")),
                ca_file=os.environ.get("HYPERV_CA", ""),
                authentication=os.environ.get("HYPERV_AUTHENTICATION", "ntlm"),
                username=os.environ["HYPERV_USER"],
                password=os.environ["HYPERV_PASSWORD"],
            )
        )
        host.computer_name()
        _HOSTS["host"] = host
    return _HOSTS["host"]


def _translated(act: Any) -> Any:
    try:
        return act()
    except InstanceNotFound as error:
        raise x_wmi(str(error), ComError(WBEM_E_NOT_FOUND)) from error
    except (TransportError, CimError) as error:
        raise x_wmi(str(error)) from error


def WMI(moniker: str = "", **_options: Any) -> Any:  # noqa: N802  # PyMI's name
    """A namespace, or the object that an object path names."""
    text = moniker.replace("//./", "//localhost/").replace("\\\\.\\", "\\\\localhost\\")
    if ":" in text.partition('"')[0]:
        reference = parse_path(text)
        return Wrapped(_translated(lambda: _host().get(_local(reference))))
    return Connection("root/virtualization/v2" if "virtualization" in text.lower() else CIMV2)


def _local(reference: Reference) -> Reference:
    return Reference(reference.class_name, reference.keys, reference.namespace)


class Connection:
    """A namespace: its classes are its attributes."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def query(self, wql: str) -> list[Wrapped]:
        return [Wrapped(item) for item in _translated(lambda: _host().query(wql, namespace=self._namespace))]

    def __getattr__(self, name: str) -> ClassOf:
        if name.startswith("_"):
            raise AttributeError(name)
        return ClassOf(self, name)


class ClassOf:
    """A class: called, it is queried."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def __call__(self, fields: list[str] | None = None, **where: Any) -> list[Wrapped]:
        wql = f"SELECT {', '.join(fields) if fields else '*'} FROM {self._name}"
        if where:
            wql += " WHERE " + " AND ".join(f"{name} = {_quoted(value)}" for name, value in where.items())
        return self._connection.query(wql)

    def new(self) -> Wrapped:
        return Wrapped(Instance(self._name))


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, int) else "'" + str(value) + "'"


class _Path:
    def __init__(self, instance: Instance) -> None:
        self.Class = instance.class_name
        self.Path = instance.path
        self.RelPath = instance.path.partition(":")[2]

    def __str__(self) -> str:
        return self.Path


class Wrapped:
    """An object of PyMI."""

    def __init__(self, instance: Instance) -> None:
        self.__dict__["instance"] = instance

    def __getattr__(self, name: str) -> Any:
        instance = self.instance
        methods = {key.lower(): method for key, method in instance.cim_class.methods.items()}
        if name.lower() in methods:
            return lambda *given, **named: self._call(methods[name.lower()], given, named)
        try:
            value = instance[name]
        except CimError as error:
            raise AttributeError(name) from error
        if isinstance(value, Reference):
            return Wrapped(_translated(lambda: _host().get(_local(value))))
        return tuple(value) if isinstance(value, list) else value

    def __setattr__(self, name: str, value: Any) -> None:
        field = self.instance.cim_class.find(name)
        self.instance[name] = _as_published(field, value)

    def set(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def path_(self) -> str:
        return self.instance.path

    def path(self) -> _Path:
        return _Path(self.instance)

    def GetText_(self, _form: int) -> str:  # noqa: N802  # PyMI's name
        return write_embedded(self.instance)

    def associators(self, wmi_association_class: str = "", wmi_result_class: str = "") -> list[Wrapped]:
        found = _translated(
            lambda: _host().associators(
                _local(self.instance.reference), association=wmi_association_class, result=wmi_result_class
            )
        )
        return [Wrapped(item) for item in found]

    def _call(self, method: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        arguments = dict(zip(sorted(method.inputs), given, strict=False)) | named
        passed = {
            name: _as_published(method.inputs[name], value) for name, value in arguments.items() if value is not None
        }
        target = _local(self.instance.reference)
        try:
            outputs = _translated_call(lambda: _host().invoke(target, method.name, **passed))
        except CallFailed as error:
            outputs = {"ReturnValue": error.code}
        return tuple(_output(outputs.get(name)) for name in sorted({*method.outputs, "ReturnValue"}))


def _translated_call(act: Any) -> dict[str, Any]:
    try:
        return act()
    except CallFailed:
        raise
    except (TransportError, CimError) as error:
        code = WBEM_E_NOT_FOUND if isinstance(error, InstanceNotFound) else 0x80041001
        raise x_wmi(str(error), ComError(code)) from error


def _as_published(field: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [_as_published(field, item) for item in value]
    if field.type == "reference" and isinstance(value, str):
        return _local(parse_path(value))
    if field.type == "boolean" and isinstance(value, str):
        return value.lower() == "true"
    if field.type in INTEGERS and not isinstance(value, int):
        return int(value)
    return str(value) if field.type == "string" else value


def _output(value: Any) -> Any:
    if isinstance(value, list):
        return [_output(item) for item in value]
    if isinstance(value, Reference):
        return Reference(value.class_name, value.keys, value.namespace, _host().computer_name()).path()
    if isinstance(value, Instance):
        return Wrapped(value)
    if isinstance(value, str) and value.startswith("<INSTANCE"):
        return Wrapped(read_embedded(value))
    return value


def known_classes() -> int:
    """How many classes can be named."""
    return len(list(load_schemas()))
