import os

import pytest
from manager.world import World

from federation.store import open_store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def store_url(request, tmp_path):
    """The URL of an empty store, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'manager.sqlite'}"
        return
    server = request.getfixturevalue("postgresql")
    name = f"manager_{os.getpid()}"
    yield server.add_database(name)
    server.drop_database(name)


@pytest.fixture
def make_world(tmp_path):
    """Makes managers on one store; all are stopped in the end."""
    made = []

    def make(*, start=True, url=None, **settings):
        store = open_store(url or f"sqlite:///{tmp_path / 'manager.sqlite'}")
        world = World(store, **settings)
        made.append(world)
        if start:
            world.start()
        return world

    yield make
    for world in made:
        if world.manager.publisher._thread.is_alive():
            world.manager.stop()
        world.store.close()


@pytest.fixture
def world(make_world):
    world = make_world()
    world.furnish()
    return world
