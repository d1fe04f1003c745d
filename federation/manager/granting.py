"""Which broker user may speak for which worker.

Rules; ``user`` is the AMQP ``user_id``, which the broker has checked:

1. A user with a grant speaks for the worker of that grant and for nobody else, in whatever cluster.
2. For a cluster that ever had a grant nobody speaks without one; revoking the last grant does not open it again.
3. For a cluster that never had a grant, users that never had one are trusted: nothing is set up yet.
4. ``trust_users`` turns all of it off, said in the log at every start.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from federation.contract.errors import AlreadyExists, InvalidRequest, NotFound
from federation.manager.clocks import Clock
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.admission import WORKER_NAME_RULE, is_worker_name
from federation.protocol.records import WorkerGrant

log = logging.getLogger(__name__)

_USER = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class Speech(NamedTuple):
    """Somebody says something in a worker's name; ``user`` is None when the message bears no broker user."""

    user: str | None
    cluster: str
    worker: str


class Granting:
    """The use cases around grants; ``dropped`` counts by the way that a message came (``results``, ``admission``)."""

    def __init__(self, store: Store, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._clock = clock
        self._trusting = settings.trust_users
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        if self._trusting:
            log.warning("broker users are trusted: whoever may publish results speaks for every worker")

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages were dropped since the start."""
        with self._lock:
            return dict(self._dropped)

    def grant(self, cluster: str, worker: str, user: str) -> WorkerGrant:
        """Let a broker user speak for a worker; again for one that was revoked.

        Raises NotFound, InvalidRequest, or AlreadyExists when the user speaks for another worker.
        """
        if not is_worker_name(worker):
            message = f"worker is {worker!r}, expected {WORKER_NAME_RULE}"
            raise InvalidRequest(message, field="worker", value=worker)
        if not _USER.fullmatch(user):
            message = f"user is {user!r}, expected 1 to 255 printable ASCII characters without spaces"
            raise InvalidRequest(message, field="user", value=user)
        made = WorkerGrant(user=user, cluster=cluster, worker=worker, granted_at=self._clock.wall())
        with self._store.transaction() as transaction:
            if transaction.cluster(cluster, lock=True) is None:
                message = f"cluster {cluster!r} is not known"
                raise NotFound(message, field="cluster", value=cluster)
            for other in transaction.worker_grants(users={user}):
                if (other.cluster, other.worker) != (cluster, worker) and other.revoked_at is None:
                    message = f"broker user {user!r} speaks for worker {other.worker!r} of cluster {other.cluster!r}"
                    raise AlreadyExists(message, field="user", value=user)
            transaction.save_worker_grant(made)
        log.info("granted user=%s worker=%s cluster=%s", user, worker, cluster)
        return made

    def revoke(self, cluster: str, worker: str) -> list[WorkerGrant]:
        """Let nobody speak for a worker any more; raises NotFound when nobody may."""
        now = self._clock.wall()
        with self._store.transaction() as transaction:
            live = [
                each
                for each in transaction.worker_grants(clusters={cluster})
                if each.worker == worker and each.revoked_at is None
            ]
            if not live:
                message = f"no broker user is granted worker {worker!r} of cluster {cluster!r}"
                raise NotFound(message, field="worker", value=worker)
            revoked = [msgspec.structs.replace(each, revoked_at=now) for each in live]
            for each in revoked:
                transaction.save_worker_grant(each)
        log.info("revoked worker=%s cluster=%s", worker, cluster)
        return revoked

    def grants(self, cluster: str | None = None) -> list[WorkerGrant]:
        """Grants by cluster and worker, revoked ones, too."""
        with self._store.reading() as transaction:
            return transaction.all_worker_grants(cluster)

    def check(self, user: str | None, cluster: str, worker: str) -> None:
        """Raise InvalidRequest, and count, when this user may not speak for this worker."""
        said = Speech(user, cluster, worker)
        with self._store.reading() as transaction:
            granted = self.granted([said], transaction)
        if said not in granted:
            self.drop("admission", said)
            message = (
                f"broker user {user!r} is not granted worker {worker!r} of cluster {cluster!r}; "
                f"federation broker grant {cluster} {worker} gives it a user of its own"
            )
            raise InvalidRequest(message, field="worker", value=worker)

    def granted(self, said: Collection[Speech], transaction: Transaction) -> set[Speech]:
        """What of it may be said."""
        if self._trusting or not said:
            return set(said)
        users = {each.user for each in said if each.user is not None}
        known = transaction.worker_grants(users=users, clusters={each.cluster for each in said})
        return {each for each in said if may_speak(each, known)}

    def drop(self, way: str, said: Speech) -> None:
        """Count something that must not be said, and tell of it."""
        with self._lock:
            self._dropped[way] += 1
        log.warning("%s dropped: user=%.80r is not granted worker=%.80r of cluster=%.80r", way, *said)


def may_speak(said: Speech, grants: Iterable[WorkerGrant]) -> bool:
    """The rules of this module; ``grants`` are at least all of the user and all of the cluster."""
    about = [each for each in grants if each.user == said.user or each.cluster == said.cluster]
    if not about:
        return True
    return any((each.user, each.cluster, each.worker) == said and each.revoked_at is None for each in about)
