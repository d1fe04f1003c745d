"""The options under ``extensions["vmware"]``: where the machine goes, and what vSphere takes its guest for.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from federation.contract.errors import InvalidRequest

DRIVER = "vmware"
_GUEST = re.compile(r"^[A-Za-z0-9_]{1,64}\Z")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``datastore`` or ``datastore_cluster``, ``folder`` and ``resource_pool`` by name, instead of those of the settings; empty: those.

    ``hot_add`` lets the machine grow while it runs; None: as the settings say.
    """

    datastore: str = ""
    datastore_cluster: str = ""
    folder: str = ""
    resource_pool: str = ""
    guest_id: str = ""
    hot_add: bool | None = None


def options(extensions: Mapping[str, Mapping[str, str | int | bool]]) -> Options:
    """This driver's options; InvalidRequest names the first one that is not known or not right."""
    given = extensions.get(DRIVER, {})
    known = Options.__struct_fields__
    for name, value in given.items():
        if name not in known:
            listed = ", ".join(known)
            raise InvalidRequest(
                f'extensions["vmware"] has {name!r}, known are: {listed}', field=f"extensions.vmware.{name}"
            )
        kind, expected = (bool, "true or false") if name == "hot_add" else (str, "text")
        if not isinstance(value, kind):
            raise InvalidRequest(f'extensions["vmware"].{name} is {value!r}, expected {expected}', field=name)
    if given.get("datastore") and given.get("datastore_cluster"):
        raise InvalidRequest('extensions["vmware"] has datastore and datastore_cluster, expected one of them')
    guest = given.get("guest_id", "")
    if guest and not _GUEST.match(str(guest)):
        raise InvalidRequest(f'extensions["vmware"].guest_id is {guest!r}, expected a name such as debian12_64Guest')
    return msgspec.convert(dict(given), Options)
