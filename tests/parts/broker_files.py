"""What a RabbitMQ node reads: its configuration, cookie, certificates and environment."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from parts.certificates import make_certificates
from parts.state import free_ports, write_facts

if TYPE_CHECKING:
    from pathlib import Path

    from parts.broker_program import BrokerProgram

USER = "federation"
VHOST = "federation"
PORTS_PER_NODE = 3
# A test machine has few cores: idle schedulers sleep instead of spinning.  A channel looks every five seconds whether a
# message is held for too long; RabbitMQ's own minute would only be waited for.
ERLANG_ARGUMENTS = (
    "+sbwt none +sbwtdcpu none +sbwtdio none "
    "-kernel inet_dist_use_interface {127,0,0,1} -kernel net_ticktime 8 -start_epmd false "
    "-rabbit channel_tick_interval 5000"
)


def prepare_broker(folder: Path, size: int, program: BrokerProgram) -> None:
    """Write everything that `size` nodes need into `folder`, with ports and a password of their own."""
    ports = free_ports(PORTS_PER_NODE * size + 1, folder)
    nodes = [_new_node(number, ports[PORTS_PER_NODE * number :]) for number in range(size)]
    cookie = folder / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    (folder / "env.conf").write_text("")
    (folder / "plugins").write_text("[].\n")
    (folder / "log").mkdir(exist_ok=True)
    password = secrets.token_hex(8)
    certificates = make_certificates(folder / "certificates")
    for number, node in enumerate(nodes):
        options = _options(node, password, program.seen(folder)) | _peers(nodes)
        text = "".join(f"{key} = {value}\n" for key, value in options.items())
        (folder / f"node{number}.conf").write_text(text)
    facts = {"nodes": nodes, "password": password, "epmd_port": ports[-1], "epmd": None}
    write_facts(folder, {**facts, "certificates": certificates, "version": program.version})
    program.give(folder)


def _new_node(number: int, ports: list[int]) -> dict[str, Any]:
    name = f"federation{number}@localhost"
    return {"name": name, "port": ports[0], "tls_port": ports[1], "distribution_port": ports[2], "process": None}


def _options(node: dict[str, Any], password: str, seen: Path) -> dict[str, str]:
    """rabbitmq.conf of one node; the user and vhost are made at its first boot."""
    return {
        "listeners.tcp.1": f"127.0.0.1:{node['port']}",
        "listeners.ssl.1": f"127.0.0.1:{node['tls_port']}",
        "ssl_options.cacertfile": str(seen / "certificates/ca.pem"),
        "ssl_options.certfile": str(seen / "certificates/server.pem"),
        "ssl_options.keyfile": str(seen / "certificates/server.key"),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "false",
        "default_user": USER,
        "default_pass": password,
        "default_vhost": VHOST,
        "default_user_tags.administrator": "true",
        "disk_free_limit.absolute": "50MB",
        "vm_memory_high_watermark.absolute": "2GB",
        "raft.wal_max_size_bytes": str(64 * 1024 * 1024),
        "log.file.level": "info",
    }


def _peers(nodes: list[dict[str, Any]]) -> dict[str, str]:
    if len(nodes) == 1:
        return {}
    discovery = "cluster_formation"
    peers = {f"{discovery}.classic_config.nodes.{count}": node["name"] for count, node in enumerate(nodes, 1)}
    # A frozen node that goes on splits RabbitMQ 4.0's metadata for good: `pause_minority` was seen to leave it so (the
    # node never missed its peers), `autoheal` to mend it within 4 s.
    partitions = {"cluster_partition_handling": "autoheal"}
    return {f"{discovery}.peer_discovery_backend": "classic_config", **peers, **partitions}


def broker_environment(facts: dict[str, Any], number: int, seen: Path) -> dict[str, str]:
    """The environment of one node and of the tools that speak to it; `seen` is the folder as the server sees it."""
    node = facts["nodes"][number]
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(seen),
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(facts["epmd_port"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_CONF_ENV_FILE": str(seen / "env.conf"),
        "RABBITMQ_CONFIG_FILE": str(seen / f"node{number}.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(seen / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(seen / f"node{number}"),
        "RABBITMQ_LOG_BASE": str(seen / "log"),
        "RABBITMQ_NODENAME": node["name"],
        "RABBITMQ_DIST_PORT": str(node["distribution_port"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
        # Makes the start script exec the Erlang machine, so that the pid we know is the broker's own.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def has_saved_queue(folder: Path, number: int, queue: str, vhost: str = VHOST) -> bool:
    """Whether a node's directory of quorum queues on disk names a queue.

    RabbitMQ 4.0.5 saves that directory (`names.dets`) only after half a second of quiet. A node killed before comes
    back with the queue as an empty member that never elects a leader, confirmed messages lost: wait for this before
    killing a node that has just been given a queue.
    """
    name = f"{vhost}_{queue}".encode()
    return any(name in path.read_bytes() for path in (folder / f"node{number}").glob("*/quorum/*/names.dets"))
