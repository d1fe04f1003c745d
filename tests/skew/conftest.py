"""Installations of both releases, made once, and estates whose processes come from either."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from acceptance.conftest import make_estates
from acceptance.estate import Estate
from skew.installations import Installation, install_previous, install_tree


@dataclass
class SkewedEstate(Estate):
    """An estate that starts what comes next from the installation ``using``."""

    using: Installation | None = None

    def command(self, *arguments: str) -> list[str]:
        assert self.using is not None
        return [str(self.using.program), *arguments]

    def environment(self) -> dict[str, str]:
        found = super().environment()
        found.pop("PYTHONPATH", None)
        return found


@pytest.fixture(scope="session")
def previous(tmp_path_factory):
    return install_previous(tmp_path_factory.mktemp("previous"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    return install_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def estate(rabbitmq, tmp_path_factory):
    made, make = make_estates(rabbitmq, tmp_path_factory, SkewedEstate)
    yield make()
    for each in made:
        each.end()
