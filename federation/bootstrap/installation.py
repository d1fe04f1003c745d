"""What every start refuses: a foreign distribution that provides our package (DESIGN §4)."""

from __future__ import annotations

import importlib.metadata

_OURS = "driver-federation"
_PACKAGE = "federation"


class ForeignDistribution(Exception):
    """Two installed distributions provide the package ``federation``: which one is imported is left to chance."""


def check_distribution() -> str:
    """Name the distribution that provides us and its version, or raise ForeignDistribution.

    A foreign package on the public index also installs a package ``federation`` (DESIGN §4).
    """
    providers = sorted(set(importlib.metadata.packages_distributions().get(_PACKAGE, [])))
    foreign = [name for name in providers if name.lower().replace("_", "-") != _OURS]
    if foreign:
        message = (
            f"the package {_PACKAGE!r} is provided by {', '.join(providers)}; only {_OURS} may: "
            f"pip uninstall {' '.join(foreign)}, then pip install --force-reinstall {_OURS}"
        )
        raise ForeignDistribution(message)
    return f"{_OURS} {version()}"


def version() -> str:
    """Of the distribution that provides us."""
    return importlib.metadata.version(_OURS)
