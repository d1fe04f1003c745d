import itertools
import os

import pytest
from acceptance.estate import Estate

_NUMBERS = itertools.count()


def make_estates(broker, tmp_path_factory):
    """Makes installations, each on a virtual host of its own; all are ended in the end, with their logs where a test failed."""
    made = []

    def make(**settings):
        folder = tmp_path_factory.mktemp("estate")
        vhost = f"estate-{os.getpid()}-{next(_NUMBERS)}"
        url = broker.add_vhost(vhost).replace("amqp://", "federation://", 1)
        estate = Estate(url, folder, **settings)
        made.append(estate)
        return estate

    return made, make


@pytest.fixture
def make_estate(rabbitmq, tmp_path_factory):
    made, make = make_estates(rabbitmq, tmp_path_factory)
    yield make
    for estate in made:
        estate.end()


@pytest.fixture
def make_breakable_estate(breakable_rabbitmq, tmp_path_factory):
    made, make = make_estates(breakable_rabbitmq, tmp_path_factory)
    yield make
    for estate in made:
        estate.end()


@pytest.fixture
def estate(make_estate):
    return make_estate()
