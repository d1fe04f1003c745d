"""What can go wrong with the store for good, each with the caller's next move.

What may go away by itself is :class:`federation.protocol.errors.StoreUnavailable`; what a caller did wrong (a name that
is taken, an id that is unknown) is an error of the contract's catalogue.  Errors of SQLAlchemy, SQLite and psycopg are
translated into these where they enter; none of the messages holds a password or a row's values.
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of what the store raises itself; trying again does not help."""


class AddressError(StoreError, ValueError):
    """The store's URL says something that cannot be meant; correct it."""


class SchemaMismatch(StoreError):
    """The database's tables are not of this program's release; the message says which side has to move."""


class BackupError(StoreError):
    """A backup cannot be written, read or restored; the message says what has to change."""


class DowngradeError(StoreError):
    """The tables cannot go back to that revision now; the message says what has to change."""


class StoreRefused(StoreError):
    """The database refused a statement: a defect of this program, or somebody changed the tables by hand; report it."""


class UnknownRow(StoreError):
    """Facts were to be written of a key or operation that is not there, or is settled already; report it."""
