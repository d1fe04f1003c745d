"""What may be wrong with CIM data, before any host is asked or after it answered."""

from __future__ import annotations


class CimError(Exception):
    """The root of this package's errors."""


class UnknownClass(CimError):
    """No such class, property or method is in the schemas; correct the name or add the class's published definition."""


class BadValue(CimError):
    """A value is not of the type that the schema gives; correct what was passed, or report what the host sent."""
