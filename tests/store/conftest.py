from __future__ import annotations

import os

import pytest
from store.making import Wall, cluster, wipe

from federation.store import Limits, open_store

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="session")
def postgresql_database(request):
    """One database of this test session, made when the first test asks for it."""
    server = request.getfixturevalue("postgresql")
    name = f"store_{os.getpid()}"
    url = server.add_database(name)
    yield url
    server.drop_database(name)


@pytest.fixture(params=BOTH)
def url(request, tmp_path):
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    address = request.getfixturevalue("postgresql_database")
    open_store(address).close()
    yield address
    leftover = open_store(address)
    wipe(leftover)
    leftover.close()


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def open_another(url, wall):
    """Opens stores on the same database, as another process would."""
    stores = []

    def opening(**options):
        stores.append(open_store(url, **{"wall_clock": wall, **options}))
        return stores[-1]

    yield opening
    for one in stores:
        one.close()


@pytest.fixture
def store(open_another):
    """A store that has one cluster."""
    opened = open_another(limits=Limits(patience=10.0))
    with opened.transaction() as transaction:
        transaction.add_cluster(cluster())
    return opened


@pytest.fixture
def accept(store):
    """Accepts operations, each in a transaction of its own."""

    def accepting(*operations):
        records = []
        for operation in operations:
            with store.transaction() as transaction:
                records.append(transaction.accept(operation))
        return records

    return accepting
