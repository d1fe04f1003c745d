"""Backup, restore and downgrade of a store, by whoever may read and write its database; no manager is asked."""

from __future__ import annotations

from pathlib import Path

from federation.manager.clocks import SystemClock
from federation.manager.restoring import Restored, finish_restore
from federation.store import BackupFacts, SqlTransaction, backup, downgrading

__all__ = ["back_up", "downgrade_store", "plan_downgrade", "restore", "revisions", "schema_of"]

back_up = backup.back_up
downgrade_store = downgrading.downgrade_store
plan_downgrade = downgrading.plan_downgrade
revisions = downgrading.revisions
schema_of = downgrading.schema_of


def restore(url: str, file: Path, *, replace: bool, revoke_tokens: bool) -> tuple[BackupFacts, Restored]:
    """Load a backup and make it safe to work on, or change nothing; raises StoreError, StoreUnavailable."""
    done: list[Restored] = []
    clock = SystemClock()

    def finish(transaction: SqlTransaction, facts: BackupFacts) -> None:
        done.append(finish_restore(transaction, clock, facts.taken_at, revoke_tokens=revoke_tokens))

    facts = backup.restore(url, file, finish, replace=replace)
    return facts, done[0]
