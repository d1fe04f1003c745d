import uuid

import pytest
from acceptance.estate import Estate


def make_estates(broker, tmp_path_factory):
    """Makes installations, each on a virtual host of its own; all are ended in the end, with their logs where a test failed."""
    made = []

    def make(**settings):
        folder = tmp_path_factory.mktemp("estate")
        vhost = f"estate-{uuid.uuid4().hex[:12]}"
        url = broker.add_vhost(vhost).replace("amqp://", "federation://", 1)
        if broker.size > 1:
            url = broker.url_of("federation", broker.ports).rpartition("/")[0] + f"/{vhost}"
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
