import pytest
from manager.world import World

from federation.store import open_store


@pytest.fixture
def make_world(tmp_path):
    """Makes managers on one store; all are stopped in the end."""
    made = []

    def make(*, start=True, **settings):
        store = open_store(f"sqlite:///{tmp_path / 'manager.sqlite'}")
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
