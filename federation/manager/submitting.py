"""Accepting operations: read what is asked, accept it, hand it to the publisher.

Operations of instances that are there and are asked for at the same time are accepted together, in one transaction; what
cannot go with others goes alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import uuid_utils

from federation.contract.errors import InvalidRequest, OperationError, Overloaded
from federation.contract.operations import Lane
from federation.manager.accepting import Accepted, Accepting
from federation.manager.adapting import Adapting
from federation.manager.gathering import Gathering
from federation.manager.ports import Tracing
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.submission import Submission, Wish, check_size
from federation.protocol.errors import StoreUnavailable
from federation.protocol.records import OperationRecord

log = logging.getLogger(__name__)

_MOST_TOGETHER = 32
_ABREAST = 2


class Submitting:
    """The use case ``submit``."""

    def __init__(
        self, accepting: Accepting, publisher: Publisher, settings: ManagerSettings, adapting: Adapting
    ) -> None:
        self._accepting = accepting
        self._publisher = publisher
        self._settings = settings
        self._adapting = adapting
        self._gathering = Gathering(self._together, most=_MOST_TOGETHER, abreast=_ABREAST)
        self.tracing: Tracing | None = None

    def submit(self, submission: Submission) -> OperationRecord:
        """Accept an ordered operation, or raise an error of the catalogue; nothing is accepted then."""
        if self.tracing is None:
            return self._submit(submission)
        operation = self._adapting.revisions.find(submission.name, submission.revision)
        with self.tracing.submitting(operation.name, submission.trace) as trace:
            return self._submit(replace(submission, trace=trace))

    def _submit(self, submission: Submission) -> OperationRecord:
        wish = self._read(submission)
        if wish.instance is not None:
            return self._gathering.ask(wish)
        return self._publish([self._accepting.alone(wish)])[0].record

    def _read(self, submission: Submission) -> Wish:
        operation = self._adapting.revisions.find(submission.name, submission.revision)
        if operation.lane is not Lane.ORDERED:
            message = f"{operation.name} is a query; read it, do not submit it"
            raise InvalidRequest(message, field="name", value=operation.name)
        if self._publisher.backlog >= self._settings.max_backlog:
            message = (
                f"{self._publisher.backlog} operations wait for the broker, the limit is {self._settings.max_backlog}"
            )
            raise Overloaded(message, limit=self._settings.max_backlog)
        arguments = dict(submission.arguments)
        if operation.name == "create":
            arguments.setdefault("instance", str(uuid_utils.uuid7()))
        asked = self._adapting.read(submission.name, submission.revision, arguments, submission.caller)
        check_size(operation, asked.request)
        return Wish(submission, asked)

    def _together(self, wishes: list[Wish]) -> list[OperationRecord | Exception]:
        if len(wishes) == 1:
            return [self._tried(wishes[0])]
        try:
            replies = self._accepting.together(wishes)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (told; and whose fault it is shows when each goes alone)
            log.info("%d operations that came together go one by one: %.300s", len(wishes), error)
            return [self._tried(wish) for wish in wishes]
        self._publish([each for each in replies if isinstance(each, Accepted)])
        return [each.record if isinstance(each, Accepted) else each for each in replies]

    def _tried(self, wish: Wish) -> OperationRecord | Exception:
        try:
            return self._publish([self._accepting.alone(wish)])[0].record
        except (OperationError, StoreUnavailable) as error:
            return error
        except Exception as error:
            log.exception("%s cannot be accepted", wish.asked.operation.name)
            return error

    def _publish(self, accepted: Sequence[Accepted]) -> Sequence[Accepted]:
        outgoing = [each.outgoing for each in accepted if each.outgoing is not None]
        if outgoing:
            self._publisher.accepted(outgoing)
        return accepted
