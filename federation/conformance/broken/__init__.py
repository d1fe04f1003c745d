"""Deliberately broken drivers: what a kit is worth shows in what it catches.

Each is the simulated driver with one fault, and each is caught by a case that is named here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Broken:
    """A driver, and the case that catches it: module, function, and the parameters of the case."""

    driver: str
    module: str
    case: str
    scenario: str = ""
    parameters: tuple[tuple[str, object], ...] = ()

    @property
    def reference(self) -> str:
        """As the kit's ``--driver`` takes it."""
        return f"{__name__}.{self.driver}"


_OPERATIONS, _REFUSALS, _QUERIES, _ERRORS = "test_operations", "test_refusals", "test_queries", "test_errors"
_SAYS = "test_it_does_what_it_says"
_REPEATED = "test_a_repeat_changes_nothing_and_answers_the_same"
_KILLED = "test_killed_before_any_changing_call_it_is_finished_by_the_next_attempt"
_REVOKED = "test_without_leave_nothing_more_is_changed"
_CANCELLED = "test_cancelled_at_any_changing_call_it_leaves_what_was_there"
_GUARDED = "test_there_is_no_more_changing_than_leave_was_given_for"

BROKEN: tuple[Broken, ...] = (
    Broken("leave:IgnoresGuard", _OPERATIONS, _REVOKED, "create"),
    Broken("leave:NeverAsks", _OPERATIONS, _GUARDED, "power_on"),
    Broken("leave:GuardsTooLate", _OPERATIONS, _KILLED, "power_on"),
    Broken("leave:AsksOnce", _OPERATIONS, _GUARDED, "create"),
    Broken("leave:IgnoresCancel", _OPERATIONS, _CANCELLED, "create"),
    Broken("leave:LeaksOnFailure", _OPERATIONS, _CANCELLED, "create"),
    Broken("leave:UndoesWithoutLeave", _OPERATIONS, _REVOKED, "create"),
    Broken("leave:SnapshotsTwice", _OPERATIONS, _REPEATED, "create_snapshot"),
    Broken("leave:RebootsAgain", _OPERATIONS, _REPEATED, "reboot-hard"),
    Broken("leave:DestroysOnFailedRecovery", _OPERATIONS, _KILLED, "power_on"),
    Broken("state:CreatesOnce", _OPERATIONS, _KILLED, "create"),
    Broken("state:LeaksOnDestroy", _OPERATIONS, _SAYS, "destroy-stopped"),
    Broken("state:TouchesForeign", _REFUSALS, "test_a_foreign_machine_is_refused_and_not_touched", parameters=(("operation", "power_off"),)),
    Broken("state:BlocksForever", _OPERATIONS, _SAYS, "power_off-hard"),
    Broken("state:RemembersTooLong", _QUERIES, "test_what_another_worker_changed_is_seen_at_once"),
    Broken("state:CountsInKibibytes", _OPERATIONS, _SAYS, "create"),
    Broken("state:ListsAsItComes", _QUERIES, "test_pages_hold_every_instance_once_in_the_order_of_ids", parameters=(("limit", 2),)),
    Broken("state:ListsTwice", _QUERIES, "test_pages_hold_every_instance_once_in_the_order_of_ids", parameters=(("limit", 2),)),
    Broken("state:HidesForeign", _REFUSALS, "test_a_foreign_machine_is_shown_as_foreign_and_only_when_asked"),
    Broken("state:DeclaresTooMuch", _OPERATIONS, _SAYS, "pause"),
    Broken("state:DeclaresTooLittle", _REFUSALS, "test_a_capability_that_is_not_declared_is_refused_and_touches_nothing", parameters=(("flag", "pause"),)),
    Broken("state:SwallowsErrors", _REFUSALS, "test_an_image_that_cannot_be_read_is_unavailable"),
    Broken("state:MixesUpItsInstances", "test_concurrency", "test_many_instances_at_once_in_one_worker_end_as_one_does", parameters=(("chain", "create"),)),
    Broken("state:DestroysOnce", _OPERATIONS, _SAYS, "destroy-absent"),
    Broken("state:ForgetsMetadata", _OPERATIONS, _SAYS, "create-metadata"),
    Broken("state:AsksInQueries", _QUERIES, "test_a_query_changes_nothing", parameters=(("operation", "get_instance"),)),
    Broken("state:DropsExtensions", _REFUSALS, "test_an_unknown_extension_of_its_own_is_refused"),
    Broken("words:RaisesItsOwn", _ERRORS, "test_what_it_raises_is_in_the_catalogue_and_declared", parameters=(("operation", "power_on"),)),
    Broken("words:RaisesUndeclared", _ERRORS, "test_what_it_raises_is_in_the_catalogue_and_declared", parameters=(("operation", "pause"),)),
    Broken("words:TellsSecrets", _ERRORS, "test_what_a_user_keeps_secret_is_in_no_message", parameters=(("what", "user_data"),)),
    Broken("locking:HoldsALock", "test_description", "test_its_source_holds_no_lock"),
)  # fmt: skip
"""One row for each driver."""
