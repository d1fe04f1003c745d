"""What the hypervisor has against what the store says.

For an operator after a restore, and whenever somebody may have worked on a hypervisor by hand.  Nothing is ever changed
on the hypervisor; what it says of an instance is written into the store only when that is asked for.  An instance with
an unsettled operation is on its way from one state to another: it is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.contract.errors import NotFound
from federation.manager.clocks import Clock
from federation.manager.counters import Caller
from federation.manager.reading import Reading
from federation.manager.store_ports import Store
from federation.protocol.records import InstanceRecord

_PAGE = 500
_WRITABLE = frozenset({"moved", "state", "size"})
_MOST_PAGES = 2000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One instance that the two sides tell differently.

    ``kind``: ``unknown`` (only the hypervisor has it, and it is ours), ``missing`` (only the store has it), ``moved``
    (another node), ``state`` (another power state), ``size`` (other processors or memory).
    """

    instance: str
    name: str
    kind: str
    stored: str
    found: str
    next_move: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared: instances that both sides have alike are counted, ``busy`` ones were left out."""

    cluster: str
    alike: int
    busy: int
    differences: list[Difference]


class Comparing:
    """The use case; it reads every page of both sides."""

    def __init__(self, store: Store, reading: Reading, clock: Clock) -> None:
        self._store = store
        self._reading = reading
        self._clock = clock

    def compare(self, cluster: str, *, write: bool = False) -> Comparison:
        """Compare a cluster's instances; ``write`` writes node, state and size down as they were found.

        Raises NotFound, and what the query ``list_instances`` raises.
        """
        with self._store.reading() as transaction:
            if transaction.cluster(cluster) is None:
                raise NotFound(f"cluster {cluster!r} is not known", field="cluster", value=cluster)
            busy = set(transaction.unsettled_keys(cluster, _PAGE * _MOST_PAGES))
        found = self._found(cluster)
        stored = self._stored(cluster)
        with self._store.reading() as transaction:
            # What was accepted while the hypervisor was asked may have changed what it said.
            busy.update(transaction.unsettled_keys(cluster, _PAGE * _MOST_PAGES))
        differences: list[Difference] = []
        alike = left_out = 0
        for identity in sorted(found.keys() | stored.keys()):
            if identity in busy:
                left_out += 1
                continue
            told = _differences(identity, stored.get(identity), found.get(identity))
            differences.extend(told)
            alike += not told
        if write:
            for identity in {each.instance for each in differences if each.kind in _WRITABLE}:
                self._write(stored[identity], found[identity])
        return Comparison(cluster=cluster, alike=alike, busy=left_out, differences=differences)

    def _write(self, seen: InstanceRecord, found: dict[str, Any]) -> None:
        """Unless something has happened to the instance since both sides were read."""
        with self._store.transaction() as transaction:
            if transaction.unsettled(seen.id):  # locks the key, before the instance
                return
            record = transaction.instance(seen.id, lock=True)
            if record is None or record.updated_at != seen.updated_at:
                return
            told = {
                "observed": found,
                "state": found["power_state"],
                "node": found["node"],
                "vcpus": found.get("vcpus") or record.vcpus,
                "memory_bytes": found.get("memory_bytes") or record.memory_bytes,
            }
            transaction.save_instance(msgspec.structs.replace(record, **told, updated_at=self._clock.wall()))

    def _found(self, cluster: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        after: str | None = None
        for _ in range(_MOST_PAGES):
            asked = {"limit": _PAGE, **({} if after is None else {"after": after})}
            page = self._reading.query(cluster, "list_instances", asked, caller=Caller.MANAGER)
            found.update({each["id"]: each for each in page["instances"] if each.get("owned", True)})
            after = page.get("next")
            if after is None:
                break
        return found

    def _stored(self, cluster: str) -> dict[str, InstanceRecord]:
        stored: dict[str, InstanceRecord] = {}
        after: str | None = None
        while True:
            with self._store.reading() as transaction:
                page = transaction.instances(cluster, after, _PAGE)
            stored.update({record.id: record for record in page})
            if len(page) < _PAGE:
                return stored
            after = page[-1].id


def _differences(identity: str, stored: InstanceRecord | None, found: dict[str, Any] | None) -> list[Difference]:
    if stored is None:
        return [] if found is None else [_only_found(identity, found)]
    if found is None:
        # One that was never made is nowhere, and the store says so.
        return [] if stored.state == "failed" else [_only_stored(stored)]
    told = [("moved", stored.node, found["node"]), ("state", stored.state, found["power_state"])]
    size = (found.get("vcpus"), found.get("memory_bytes"))
    if None not in size:
        told.append(("size", _size_words(stored.vcpus, stored.memory_bytes), _size_words(*size)))
    return [
        Difference(instance=identity, name=stored.name, kind=kind, stored=ours, found=theirs, next_move=_WRITE)
        for kind, ours, theirs in told
        if ours != theirs
    ]


_WRITE = "write down what was found: federation cluster compare CLUSTER --write"


def _only_found(identity: str, found: dict[str, Any]) -> Difference:
    name, node = found["name"], found["node"]
    move = f"take it over: federation instance adopt {identity} --cluster CLUSTER --name {name} --node {node}"
    return Difference(instance=identity, name=name, kind="unknown", stored="", found=f"on {node}", next_move=move)


def _only_stored(stored: InstanceRecord) -> Difference:
    move = f"if it was destroyed, delete the record: federation instance delete {stored.id}"
    return Difference(
        instance=stored.id, name=stored.name, kind="missing", stored=stored.state, found="", next_move=move
    )


def _size_words(vcpus: object, memory_bytes: object) -> str:
    return f"{vcpus} vcpus, {memory_bytes} bytes"
