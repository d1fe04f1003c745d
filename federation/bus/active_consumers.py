"""Which worker the broker has made the active consumer of each partition: only RabbitMQ's management API tells.

The consumer tag of a worker ends in its id (``Consumption.reader``).  Reading is bounded: pages of some hundred queues, two
columns of each, one attempt with a timeout; what was read is kept for ``fresh_for`` seconds, a failure, too.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from urllib.parse import quote

import msgspec

from federation.bus.address import parse_address
from federation.bus.errors import BusError
from federation.bus.management import ManagementApi, read_management_url

log = logging.getLogger(__name__)

_PAGE = 500
_MOST_PAGES = 40
_PARTITION = re.compile(r"federation\.(?P<cluster>[A-Za-z0-9_-]+)\.e(?P<epoch>\d+)\.p(?P<partition>\d+)", re.ASCII)
_TIMEOUT_SECONDS = 3.0


class _Queue(msgspec.Struct):
    name: str
    single_active_consumer_tag: str | None = None


class _Page(msgspec.Struct):
    items: list[_Queue]
    page_count: int


class ActiveConsumers:
    """Reads the broker; thread-safe.  Raises AddressError for a URL that cannot be meant."""

    def __init__(
        self, broker_url: str, management_url: str, ca_file: str | None = None, fresh_for: float = 5.0
    ) -> None:
        api = read_management_url(management_url, ca_file)
        self._api: ManagementApi = replace(api, timeout=_TIMEOUT_SECONDS, attempts=1)
        self._vhost = parse_address(broker_url).virtual_host
        self._fresh_for = fresh_for
        self._lock = threading.Lock()
        self._good_until = 0.0
        self._read: dict[tuple[str, int], str] | None = None
        self.failed = 0
        """Reads that failed since the start."""

    def workers(self, clusters: Collection[str]) -> Mapping[tuple[str, int], str] | None:
        """The active worker by (cluster, partition) of the newest epoch; None when the broker did not tell."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                self._read = self._look()
                self._good_until = time.monotonic() + self._fresh_for
            read = self._read
        return None if read is None else {place: who for place, who in read.items() if place[0] in clusters}

    def _look(self) -> dict[tuple[str, int], str] | None:
        try:
            queues = self._queues()
        except (BusError, msgspec.ValidationError) as error:
            self.failed += 1
            log.warning("broker's management API not read: %s", error)
            return None
        newest: dict[tuple[str, int], tuple[int, str]] = {}
        for queue in queues:
            named = _PARTITION.fullmatch(queue.name)
            if named is None:
                continue
            place, epoch = (named["cluster"], int(named["partition"])), int(named["epoch"])
            worker = (queue.single_active_consumer_tag or "").partition(".")[2]
            if epoch >= newest.get(place, (0, ""))[0]:
                newest[place] = (epoch, worker)
        return {place: worker for place, (_, worker) in newest.items() if worker}

    def _queues(self) -> list[_Queue]:
        found: list[_Queue] = []
        for number in range(1, _MOST_PAGES + 1):
            path = (
                f"queues/{quote(self._vhost, safe='')}?page={number}&page_size={_PAGE}&use_regex=true"
                f"&name={quote('^federation[.].*[.]e[0-9]+[.]p[0-9]+$')}&columns=name,single_active_consumer_tag"
            )
            page = msgspec.convert(self._api.request("GET", path), _Page, strict=False)
            found += page.items
            if number >= page.page_count:
                break
        return found
