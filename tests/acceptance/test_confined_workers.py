"""A worker's broker user tries everything on everybody else, while its own worker goes on working."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
import uuid
from urllib.parse import urlsplit

import amqp
import msgpack
import pytest
from acceptance.conftest import make_estates
from acceptance.estate import CLUSTER, spec

from federation.bootstrap.client import value_of
from federation.bootstrap.topics import ADMISSION_TOPIC, MANAGER_TOPIC, worker_prefix
from federation.bus.management import read_management_url
from federation.bus.rpc import Rpc
from federation.bus.topology import result_key
from federation.contract.errors import InvalidRequest, Unavailable
from federation.protocol.partition_map import partition_of

OTHER = "other"
ANSWERS = f"federation.answers:{CLUSTER}"
PARTITIONS = 3
SECONDS = 20
pytestmark = pytest.mark.rabbitmq


class Site:
    """A manager and a worker each of two clusters, every one with a broker user of its own."""

    def __init__(self, broker, api_url, estate, folder):
        self.broker, self.estate, self.folder = broker, estate, folder
        self.operator = estate.broker
        self.urls = {}
        self.vhost = urlsplit(self.operator).path[1:]
        self.api = read_management_url(api_url)
        estate.options["FEDERATION_MANAGEMENT_URL"] = api_url

    def made(self, name, *words):
        file = self.folder / f"{name}.url"
        done = self.estate.run("broker", *words, "--url-file", str(file))
        assert done.returncode == 0, done.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        self.urls[name] = file.read_text().strip()
        assert urlsplit(self.urls[name]).password not in done.stdout + done.stderr

    @contextlib.contextmanager
    def as_user(self, name):
        """Whatever starts within connects as this user."""
        self.estate.broker = self.urls[name]
        try:
            yield
        finally:
            self.estate.broker = self.operator

    def start(self):
        estate = self.estate
        self.made("manager", "provision", "--manager", "manager")
        with self.as_user("manager"):
            estate.start_manager()
        estate.options["FEDERATION_WORKER_CONFINED"] = "true"
        for cluster, worker in ((CLUSTER, "w1"), (OTHER, "w2")):
            estate.ask("create_cluster", cluster=cluster, driver="simulated", partitions=PARTITIONS)
            self.made(worker, "grant", cluster, worker)
            self.start_worker(worker, cluster)
        self.made("w9", "grant", CLUSTER, "w9")  # a colleague that does not run
        estate.until(lambda: {n["cluster"] for n in estate.ask("nodes")} == {CLUSTER, OTHER}, 60)

    def start_worker(self, worker, cluster):
        hypervisor = self.folder / cluster
        hypervisor.mkdir(exist_ok=True)
        with self.as_user(worker):
            self.estate.start_worker(worker, cluster=cluster, state_directory=str(hypervisor))

    def create(self, cluster):
        name = f"vm-{uuid.uuid4().hex[:8]}"
        return self.estate.submit("create", cluster=cluster, arguments={"spec": spec(name)}, idempotency_key=name)

    def works(self, *clusters):
        for cluster in clusters or (CLUSTER, OTHER):
            done = self.estate.settle(self.create(cluster))
            assert done["state"] == "succeeded", done
            assert self.estate.ask("read", name="list_nodes", cluster=cluster)

    def dropped(self, way):
        return self.estate.ask("counters")["not_granted"].get(way, 0)

    def names(self, what):
        return {entry["name"] for entry in self.api.request("GET", f"{what}/{self.vhost}")}


class Intruder:
    """Somebody with a user's credentials and a client of their own."""

    def __init__(self, url):
        address = urlsplit(url.replace("federation://", "amqp://", 1))
        self.user = address.username
        self.connection = amqp.Connection(
            f"{address.hostname}:{address.port}",
            userid=address.username,
            password=address.password,
            virtual_host=address.path[1:],
            connect_timeout=SECONDS,
            confirm_publish=True,
        )
        self.connection.connect()

    def refused(self, act):
        """Whether the broker refuses this for want of permission."""
        channel = self.connection.channel()
        try:
            act(channel)
        except amqp.exceptions.ChannelError as error:
            return error.reply_code == amqp.exceptions.AccessRefused.code
        channel.close()
        return False

    def publish(self, channel, exchange, key="k", body=b"x", **properties):
        message = amqp.Message(body, **properties)
        channel.basic_publish_confirm(message, exchange, key, timeout=SECONDS, confirm_timeout=SECONDS)


@pytest.fixture(scope="module")
def site(managed_broker, tmp_path_factory):
    broker, api_url, _ = managed_broker
    made, make = make_estates(broker, tmp_path_factory)
    site = Site(broker, api_url, make(), tmp_path_factory.mktemp("users"))
    site.start()
    yield site
    for one in made:
        one.end()


@pytest.fixture
def intruder(site):
    made = Intruder(site.urls["w1"])
    yield made
    made.connection.close()


@pytest.fixture
def call(site):
    """Calls a door as the first cluster's worker."""
    rpc = Rpc(site.urls["w1"], worker_prefix(CLUSTER, "w1"), confined=True)
    yield lambda topic, method, **arguments: value_of(rpc.call(topic, method, arguments, 5.0))
    rpc.close()


def own_partition(queue):
    return queue.startswith(f"federation.{CLUSTER}.e1.p")


def own_queue(queue):
    own = (f"federation.{CLUSTER}.worker.w1", f"federation.rpc:federation.{CLUSTER}.query:server:calls:w1")
    return queue.startswith(own)


def own_queries(queue):
    return queue == f"federation.rpc:federation.{CLUSTER}.query:topic:calls"


def test_confined_users_do_the_work_of_both_clusters(site):
    site.works()


def test_no_queue_but_its_own_can_be_read_purged_deleted_bound_or_declared(site, intruder):
    queues = site.names("queues")
    foreign = {queue for queue in queues if not own_queue(queue)}
    assert {"federation.results.0", "federation.dead", f"federation.{OTHER}.e1.p0"} <= foreign
    assert any(queue.startswith("federation.managers:") for queue in foreign)
    for queue in foreign:
        assert intruder.refused(lambda channel, queue=queue: channel.queue_delete(queue)), queue
        assert intruder.refused(lambda channel, queue=queue: channel.queue_declare(queue, durable=True)), queue
        assert intruder.refused(lambda channel, queue=queue: channel.queue_bind(queue, ANSWERS, "w1")), queue
    for queue in foreign:
        if not own_partition(queue) and not own_queries(queue):
            assert intruder.refused(lambda channel, queue=queue: channel.queue_purge(queue)), queue
            assert intruder.refused(lambda channel, queue=queue: channel.basic_get(queue)), queue
            assert intruder.refused(lambda channel, queue=queue: channel.basic_consume(queue)), queue
    assert site.names("queues") >= foreign
    site.works()


def test_no_exchange_but_four_can_be_published_to_and_none_deleted_or_declared(site, intruder):
    exchanges = site.names("exchanges")
    allowed = {
        "federation.results",
        f"federation.rpc:{ADMISSION_TOPIC}",
        f"federation.replies:federation.{CLUSTER}.query",
        "federation.rpc.dead-letters",
    }
    assert allowed < exchanges
    assert f"federation.rpc:{MANAGER_TOPIC}" in exchanges
    for exchange in exchanges - allowed:
        assert intruder.refused(lambda channel, name=exchange: intruder.publish(channel, name)), exchange
    for exchange in exchanges - {""}:
        assert intruder.refused(lambda channel, name=exchange: channel.exchange_delete(name)), exchange
    assert intruder.refused(lambda channel: channel.exchange_declare("federation.mine", "fanout"))
    assert intruder.refused(lambda channel: channel.queue_declare(f"federation.{OTHER}.worker.w2.more"))
    assert intruder.refused(lambda channel: channel.queue_declare(""))
    site.works()


def test_a_queue_of_its_own_hears_nothing_that_is_meant_for_others(site, intruder):
    mine = f"federation.{CLUSTER}.worker.w1:listening"
    channel = intruder.connection.channel()
    channel.queue_declare(mine, exclusive=True)
    manager_replies = next(q for q in site.names("queues") if q.startswith("federation.managers:") and "replies" in q)
    readable = {ANSWERS, f"federation.replies:{ADMISSION_TOPIC}", f"federation.rpc:federation.{CLUSTER}.query"}
    for exchange in site.names("exchanges") - {""}:
        for key in ("#", "w2", manager_replies, "topic:calls"):
            if exchange not in readable:
                assert intruder.refused(lambda channel, x=exchange, k=key: channel.queue_bind(mine, x, k)), exchange
            elif key != "topic:calls":
                channel.queue_bind(mine, exchange, key)
    site.works()
    assert channel.queue_declare(mine, passive=True).message_count == 0


def test_results_of_another_cluster_and_foreign_user_ids_are_refused(site, intruder):
    for partition in range(PARTITIONS):
        key = result_key(OTHER, partition)
        assert intruder.refused(lambda channel, key=key: intruder.publish(channel, "federation.results", key))
    for key in ("#", f"outcome.{CLUSTER}", f"outcome.{CLUSTER}.0.more", f"x.outcome.{CLUSTER}.0"):
        assert intruder.refused(lambda channel, key=key: intruder.publish(channel, "federation.results", key)), key
    with pytest.raises(amqp.exceptions.PreconditionFailed, match="user_id"):
        intruder.publish(
            intruder.connection.channel(), "federation.results", result_key(CLUSTER, 0), user_id="worker.other.w2"
        )
    site.works()


def outcome(operation, worker, cluster=CLUSTER):
    partition = partition_of(operation["key"], PARTITIONS)
    arguments = {
        "worker": worker, "cluster": cluster, "partition": partition, "operation": operation["id"],
        "key": operation["key"], "sequence": operation["sequence"], "attempt": 1,
        "outcome": {"kind": "failed", "code": "invalid_state", "message": "a lie"},
    }  # fmt: skip
    body = {"method": "outcome", "args": arguments, "namespace": "federation.results", "version": "1.0"}
    return result_key(cluster, partition), msgpack.packb(body)


@pytest.mark.parametrize("claimed", ["worker.lab.w1", None], ids=["own user id", "no user id"])
def test_an_outcome_in_a_colleagues_name_is_dropped_and_counted(site, intruder, claimed):
    operation = site.estate.settle(site.create(CLUSTER))
    before = site.dropped("results")
    key, body = outcome(operation, "w9")
    named = {} if claimed is None else {"user_id": claimed}
    intruder.publish(intruder.connection.channel(), "federation.results", key, body, **named)
    site.estate.until(lambda: site.dropped("results") == before + 1, 30)
    site.works()


def test_results_of_a_user_without_any_grant_are_dropped_and_counted(site):
    """The broker's administrator may publish anything; the manager still does not believe it."""
    stranger = Intruder(site.operator)
    operation = site.estate.settle(site.create(OTHER))
    before = site.dropped("results")
    key, body = outcome(operation, "w2", OTHER)
    stranger.publish(stranger.connection.channel(), "federation.results", key, body, user_id=stranger.user)
    stranger.connection.close()
    site.estate.until(lambda: site.dropped("results") == before + 1, 30)


@pytest.mark.parametrize(("cluster", "worker"), [(OTHER, "w2"), (OTHER, "w1"), (CLUSTER, "w9"), (CLUSTER, "w2")])
def test_nobody_joins_stays_or_leaves_in_anothers_name(site, call, cluster, worker):
    before = site.dropped("admission")
    description = site_description()
    announced = {"description": description, "host": "h", "pid": 1, "max_operations": 1}
    for method, more in (
        ("admit", announced),
        ("heartbeat", {"epoch": 1, "draining": False, "load": {}}),
        ("leave", {"reason": "a lie"}),
    ):
        with pytest.raises(InvalidRequest, match="not granted"):
            call(ADMISSION_TOPIC, method, cluster=cluster, worker=worker, **more)
    assert site.dropped("admission") == before + 3
    assert {w["id"]: w["state"] for w in site.estate.ask("workers")} == {"w1": "admitted", "w2": "admitted"}


def site_description():
    return {
        "driver": "simulated", "driver_version": "1", "releases": ["1.0", "1.0"],
        "capabilities": {"flags": [], "limits": {}},
    }  # fmt: skip


def test_what_people_ask_a_manager_no_worker_can_ask(site, call):
    with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
        call(MANAGER_TOPIC, "clusters")
    with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
        call(f"federation.{OTHER}.query", "query", name="list_nodes", arguments={})
    site.works()


def test_a_purge_of_its_own_cluster_loses_nothing(site, intruder):
    """RabbitMQ lets whoever reads a queue purge it: publishing again covers that (DESIGN 6.5.12)."""
    operations = [site.create(CLUSTER) for _ in range(20)]
    for queue in filter(own_partition, site.names("queues")):
        assert not intruder.refused(lambda channel, queue=queue: channel.queue_purge(queue))
    for operation in operations:
        assert site.estate.settle(operation, 90)["state"] == "succeeded"


def test_the_printed_commands_make_the_same_user_as_the_management_api(site):
    done = site.estate.run("broker", "grant", CLUSTER, "w8", "--url-file", str(site.folder / "w8.url"), "--print")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        program, *words = shlex.split(line)
        assert program == "rabbitmqctl"
        site.broker.ctl(*words)
    by_command, by_api = (
        {
            what: json.dumps(site.api.request("GET", f"users/worker.{CLUSTER}.{worker}/{what}"), sort_keys=True)
            for what in ("permissions", "topic-permissions")
        }
        for worker in ("w8", "w9")
    )
    assert "outcome" in by_api["topic-permissions"]
    assert by_command == {what: text.replace("w9", "w8") for what, text in by_api.items()}
    limits = [site.api.request("GET", f"user-limits/worker.{CLUSTER}.{w}")[0]["value"] for w in ("w8", "w9")]
    assert limits[0] == limits[1] != {}
    Intruder((site.folder / "w8.url").read_text().strip()).connection.close()


def test_a_revoked_worker_is_out_at_once_and_its_cluster_stays_closed(site):
    estate = site.estate
    done = estate.run("broker", "revoke", OTHER, "w2")
    assert done.returncode == 0, done.stderr
    estate.until(lambda: {w["id"]: w["state"] for w in estate.ask("workers")}["w2"] == "lost", 60)
    with pytest.raises(amqp.exceptions.AccessRefused):
        Intruder(site.urls["w2"])
    estate.kill("w2")
    estate.start_worker("w3", cluster=OTHER, state_directory=str(site.folder / OTHER))  # with the administrator's user
    assert estate.processes["w3"].wait(60) != 0
    assert "not granted" in estate.log("w3")
    site.made("w2", "grant", OTHER, "w2")
    site.start_worker("w2", OTHER)
    deadline = time.monotonic() + 60
    while {w["id"]: w["state"] for w in estate.ask("workers")}["w2"] != "admitted":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    site.works()
