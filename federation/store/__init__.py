"""The only code that knows SQL: clusters, instances, operations, outbox, grants, workers.

``open_store(url)`` gives the store that the manager's ports ask for.  Start reading at ``sql_store``; ``tables`` says
what is kept, ``ledger`` how order is kept.
"""

from federation.store.backup import BackupFacts
from federation.store.engines import Limits
from federation.store.errors import AddressError, BackupError, SchemaMismatch, StoreError, StoreRefused, UnknownRow
from federation.store.sql_store import SqlStore, SqlTransaction, open_store

__all__ = [
    "AddressError",
    "BackupError",
    "BackupFacts",
    "Limits",
    "SchemaMismatch",
    "SqlStore",
    "SqlTransaction",
    "StoreError",
    "StoreRefused",
    "UnknownRow",
    "open_store",
]
