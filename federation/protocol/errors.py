"""Errors that cross a port: raised on one side of it, caught on the other, which may not import one another."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The store is locked, overloaded, restarting or not reachable; try the whole transaction again later.

    Raised inside a transaction it undoes the transaction.  Raised by the transaction's *end*, nobody can say whether
    it was committed: try again with the same ids, everything the store does is safe to repeat with them.
    """
