"""The results of operations that have nothing to say but that they are done.

Each has a class of its own, so that each may learn to say more in a later release.
"""

from __future__ import annotations

import msgspec


class Destroyed(msgspec.Struct, frozen=True, kw_only=True):
    """The instance is gone."""


class VolumeDetached(msgspec.Struct, frozen=True, kw_only=True):
    """The instance does not have the volume."""


class InterfaceDetached(msgspec.Struct, frozen=True, kw_only=True):
    """The instance does not have the interface."""


class SnapshotDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot is gone."""


class PasswordSet(msgspec.Struct, frozen=True, kw_only=True):
    """The guest has the password."""


class NmiSent(msgspec.Struct, frozen=True, kw_only=True):
    """The interrupt was sent."""
