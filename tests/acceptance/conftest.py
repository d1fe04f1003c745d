import os
import uuid

import pytest
from acceptance.estate import Estate
from parts.broker_files import USER, prepare_broker
from parts.fixtures import bring_up
from parts.rabbitmq import RabbitMQ
from parts.state import free_ports


def make_estates(broker, tmp_path_factory, kind=Estate):
    """Makes installations of this kind, each on a virtual host of its own; all are ended in the end, with their logs where a test failed."""
    made = []

    def make(**settings):
        folder = tmp_path_factory.mktemp("estate")
        vhost = f"estate-{uuid.uuid4().hex[:12]}"
        url = broker.add_vhost(vhost).replace("amqp://", "federation://", 1)
        if broker.size > 1:
            url = broker.url_of("federation", broker.ports).rpartition("/")[0] + f"/{vhost}"
        estate = kind(url, folder, **settings)
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


@pytest.fixture(scope="module")
def managed_broker():
    """A broker of its own with the management and Prometheus plugins, and the URLs of its API and of its metrics."""
    broker = RabbitMQ(instance=f"managed-{os.getpid()}")
    bring_up(lambda: prepare_broker(broker.folder, 1, broker.program))
    api, metrics = free_ports(2, broker.folder)
    with (broker.folder / "node0.conf").open("a") as options:
        for plugin, port in (("management", api), ("prometheus", metrics)):
            options.write(f"{plugin}.tcp.ip = 127.0.0.1\n{plugin}.tcp.port = {port}\n")
    (broker.folder / "plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
    try:
        broker.start()
        login = f"{USER}:{broker.facts['password']}"
        yield broker, f"http://{login}@127.0.0.1:{api}", f"http://127.0.0.1:{metrics}"
    finally:
        broker.remove()
