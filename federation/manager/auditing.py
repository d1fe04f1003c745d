"""The audit log: who asked for what, when, and whether it was accepted.

Rules:

1. Every request that would change something leaves a record, accepted or refused; of reads only those of a console.
2. The record of an accepted operation is written in the transaction that accepts it.  Of anything else it is written
   right behind it; what could not be written is told in the log of the manager, with all that it would say.
3. A record names things and says nothing of what they are made of: no arguments, so no secrets.  What cannot stand in a
   line of text is left out of a name, so that every database keeps it and no name looks like two records.
4. Refusals come as fast as somebody asks for them, so only so many are written in a second; the rest is counted.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Annotated, Any

import msgspec
import uuid_utils
from msgspec import Meta

from federation.manager.clocks import Clock
from federation.manager.store_ports import Store
from federation.protocol.errors import StoreUnavailable
from federation.protocol.records import AuditRecord

log = logging.getLogger(__name__)

ACCEPTED = "accepted"
_REFUSALS_A_SECOND = 50
_MAX_PAGE = 1000
_DECLARED = frozenset({"submit", "read"})
_LONGEST = 200
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SUBJECTS = ("instance", "node", "worker", "operation", "token", "user")


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: ``by`` is a token's or a person's name as the way in knows it; ``request`` is the request's id."""

    by: Annotated[str, Meta(min_length=1, max_length=200)] = "unnamed"
    request: Annotated[str, Meta(max_length=200)] | None = None


NOBODY = Asker()
"""Somebody who gave no name."""


def entry(asked: Asker, action: str, now: float, result: str = ACCEPTED, **names: str | None) -> AuditRecord:
    """A record of now; ``names`` are cluster, subject and operation."""
    told = {"actor": asked.by, "request": asked.request, "action": action, "result": result, **names}
    clean = {name: None if text is None else _NO_TEXT.sub("?", text)[:_LONGEST] for name, text in told.items()}
    return msgspec.convert({"id": str(uuid_utils.uuid7()), "at": now, **clean}, AuditRecord)


class Auditing:
    """The use cases."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._second, self._refusals = 0, 0
        self.unwritten = 0

    def changed(self, asked: Asker, method: str, arguments: dict[str, Any], result: str = ACCEPTED) -> None:
        """Write that a method of the door was asked for, with the names that its arguments hold."""
        if result != ACCEPTED and not self._has_room():
            return
        request = arguments.get("arguments")
        named = {**(request if isinstance(request, dict) and method in _DECLARED else {}), **arguments}
        names = _SUBJECTS if method in _DECLARED else (*_SUBJECTS, "name")
        subject = next((named[name] for name in names if isinstance(named.get(name), str)), None)
        cluster = arguments.get("cluster") if isinstance(arguments.get("cluster"), str) else None
        action = arguments.get("name") if method in _DECLARED else method
        record = entry(asked, str(action), self._clock.wall(), result, cluster=cluster, subject=subject)
        try:
            with self._store.transaction() as transaction:
                transaction.add_audit(record)
        except StoreUnavailable as error:
            log.error("not in the audit log: %s (%s)", msgspec.json.encode(record).decode(), error)  # noqa: TRY400
        except Exception:
            # It was carried out, or refused, whatever becomes of the record.
            log.exception("not in the audit log: %s", msgspec.json.encode(record).decode())

    def records(
        self,
        *,
        actor: str | None = None,
        cluster: str | None = None,
        action: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """Records, newest first, from before the id ``before``."""
        with self._store.reading() as transaction:
            return transaction.audit(
                actor=actor, cluster=cluster, action=action, before=before, limit=max(1, min(limit, _MAX_PAGE))
            )

    def _has_room(self) -> bool:
        second = int(self._clock.wall())
        with self._lock:
            if second != self._second:
                self._second, self._refusals = second, 0
            self._refusals += 1
            if self._refusals <= _REFUSALS_A_SECOND:
                return True
            self.unwritten += 1
        return False
