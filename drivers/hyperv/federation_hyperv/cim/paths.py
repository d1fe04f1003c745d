r"""Object paths: how WMI names an instance in a string, `\\HOST\root\virtualization\v2:Class.Key="value",…`.

Inside the quotes a backslash and a quote are preceded by a backslash (MS-WMI 2.2.1, "WMI Object Path").  Names of
classes and keys are compared without case, as WMI does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from federation_hyperv.cim.errors import BadValue

VIRTUALIZATION = "root/virtualization/v2"
CIMV2 = "root/cimv2"

_PATH = re.compile(
    r"^(?:[\\/]{2}(?P<host>[^\\/]+)[\\/])?(?:(?P<namespace>root(?:[\\/]\w+)*):)?(?P<name>\w+)(?P<rest>[.=].*)?$",
    re.IGNORECASE | re.DOTALL,
)
_KEY = re.compile(
    r"""(?P<key>\w+)\s*=\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<plain>[^,"']+))\s*(?:,|$)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an instance: its class and the values of its keys as text.  ``host`` is empty for "this host"."""

    class_name: str
    keys: tuple[tuple[str, str], ...] = ()
    namespace: str = VIRTUALIZATION
    host: str = ""

    def path(self, host: str = "") -> str:
        """The object path; ``host`` stands in where the reference itself names none."""
        server = self.host or host
        prefix = rf"\\{server}" + "\\" if server else ""
        keys = ",".join(f'{name}="{_escape(value)}"' for name, value in self.keys)
        return prefix + self.namespace.replace("/", "\\") + ":" + self.class_name + (f".{keys}" if keys else "=@")

    def identity(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What two references to the same instance of one host have in common."""
        keys = tuple(sorted((name.lower(), value.lower()) for name, value in self.keys))
        return (self.namespace.lower(), self.class_name.lower(), keys)

    def key(self, name: str) -> str:
        """The value of a key; BadValue when the reference has no such key."""
        for key, value in self.keys:
            if key.lower() == name.lower():
                return value
        raise BadValue(f"{self.class_name} is named without its key {name}")


def parse_path(path: str) -> Reference:
    """Read an object path; BadValue when it is none."""
    match = _PATH.match(path.strip())
    if match is None:
        raise BadValue(f"{path!r} is no object path")
    rest = match["rest"] or ""
    namespace = (match["namespace"] or VIRTUALIZATION).replace("\\", "/")
    known = {VIRTUALIZATION: VIRTUALIZATION, CIMV2: CIMV2}
    keys: list[tuple[str, str]] = []
    if rest.startswith("."):
        position = 0
        text = rest[1:]
        while position < len(text):
            found = _KEY.match(text, position)
            if found is None:
                raise BadValue(f"the keys of {path!r} cannot be read")
            keys.append((found["key"], _value(found)))
            position = found.end()
    return Reference(match["name"], tuple(keys), known.get(namespace.lower(), namespace), match["host"] or "")


def _value(found: re.Match[str]) -> str:
    quoted: str | None = found["double"] if found["double"] is not None else found["single"]
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if quoted is not None else found["plain"].strip()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
