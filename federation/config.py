"""Options: command line over environment over file over default.  Read by the command line and by bootstrap only.

The file is oslo.config's INI form.  An option ``broker`` of the group ``DEFAULT`` is ``FEDERATION_BROKER`` in the
environment, ``lease`` of the group ``manager`` is ``FEDERATION_MANAGER_LEASE``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

DEFAULT_FILES = (Path("/etc/federation/federation.conf"),)
DEFAULT_STORE = Path.home() / ".local/state/federation/manager.sqlite"


def default_store() -> str:
    """URL of the store that a manager makes for itself when it is told of none."""
    return f"sqlite:///{DEFAULT_STORE}"


_COMMON = [
    cfg.StrOpt(
        "broker",
        default="federation://guest:guest@localhost:5672/",
        secret=True,
        help="URL of the broker: federation://user:password@host:port,host2:port/vhost, or federation+memory://NAME.",
    ),
    cfg.FloatOpt(
        "timeout",
        default=15.0,
        min=0.1,
        help="Seconds that a command waits for the broker, and for the manager's answer.",
    ),
]
_MANAGER = [
    cfg.StrOpt(
        "store",
        default=default_store(),
        secret=True,
        help="SQLAlchemy URL of the store: sqlite:///PATH, or postgresql+psycopg://user:password@host/database.",
    ),
    cfg.StrOpt(
        "id", help="Name of this manager among the managers of the store; made of host and process if not given."
    ),
    cfg.FloatOpt("lease", default=6.0, min=0.1, help="Seconds that a worker may act before it must have renewed."),
    cfg.FloatOpt("margin", default=1.0, min=0.01, help="Seconds within which a guarded call reaches the hypervisor."),
    cfg.IntOpt("grants", default=5, min=1, help="How often an operation is granted before its instance is parked."),
    cfg.FloatOpt("sweep_after", default=60.0, min=1.0, help="Seconds without a live attempt before it is sent again."),
    cfg.FloatOpt("worker_timeout", default=30.0, min=1.0, help="Seconds without a heartbeat before a worker is lost."),
    cfg.FloatOpt("nodes_every", default=30.0, min=1.0, help="Seconds between two looks at the clusters' inventories."),
    cfg.IntOpt("prefetch", default=16, min=1, max=1000, help="Deliveries that a worker holds of each partition."),
    cfg.FloatOpt(
        "keep_days", default=90.0, min=0.0, help="Days that settled operations are kept, at least one; 0: without end."
    ),
    cfg.IntOpt(
        "keep_operations", default=0, min=0, help="Settled operations that are kept of each cluster; 0: any number."
    ),
    cfg.FloatOpt("audit_days", default=400.0, min=0.0, help="Days that the audit log is kept; 0: without end."),
    cfg.BoolOpt("trust_users", default=False, help="Let every broker user speak for every worker, granted or not."),
    cfg.IntOpt("partitions", default=32, min=1, max=1024, help="Partitions of a new cluster, unless given."),
    cfg.StrOpt("metrics", help="HOST:PORT of the manager's metrics, such as 127.0.0.1:9180; not served if not given."),
]
_WORKER = [
    cfg.StrOpt("id", help="Name of this worker; made of cluster, host and process if not given."),
    cfg.BoolOpt(
        "confined",
        default=False,
        help="The broker user is one of `federation broker grant`: declare nothing but this worker's own queues.",
    ),
    cfg.IntOpt("max_operations", default=16, min=1, max=1024, help="Operations that run side by side."),
    cfg.FloatOpt("drain_timeout", default=60.0, min=0.0, help="Seconds that running operations get on SIGTERM."),
    cfg.FloatOpt("stuck_after", default=60.0, min=1.0, help="Seconds that hung driver calls may fill every slot."),
    cfg.StrOpt("metrics", help="HOST:PORT of the worker's metrics, such as 127.0.0.1:9181; not served if not given."),
]
_API = [
    cfg.StrOpt("listen", help="HOST:PORT of the REST API, such as 127.0.0.1:8780; it is not served if not given."),
    cfg.StrOpt("certificate", help="PEM file with the API's certificate chain; beyond this machine it must have one."),
    cfg.StrOpt("private_key", help="PEM file with the certificate's private key."),
    cfg.BoolOpt(
        "plain", default=False, help="Serve without TLS beyond this machine: something in front of it ends TLS."
    ),
]
_METRICS = [
    cfg.StrOpt("certificate", help="PEM file with the certificate chain of the metrics' endpoint."),
    cfg.StrOpt("private_key", help="PEM file with the certificate's private key."),
    cfg.StrOpt(
        "client_ca", help="PEM file of the authority that a client's certificate must be of; anybody if not given."
    ),
    cfg.BoolOpt("plain", default=False, help="Serve metrics without TLS beyond this machine: its network is trusted."),
]
_TRACING = [
    cfg.StrOpt(
        "endpoint", help="OTLP/HTTP receiver of traces, such as http://127.0.0.1:4318; none are made if not given."
    ),
    cfg.FloatOpt(
        "ratio", default=1.0, min=0.0, max=1.0, help="Share of the traces that begin here which are recorded."
    ),
]
_MANAGEMENT: list[cfg.Opt] = [
    cfg.StrOpt(
        "url",
        secret=True,
        help="The broker's management API: with an administrator's login for `federation broker`, with one of the tag "
        "monitoring for a manager's metrics: https://user:password@host:15671.",
    ),
    cfg.StrOpt("ca_file", help="PEM file of the authorities that the management API's certificate is checked with."),
]
GROUPS: dict[str, list[cfg.Opt]] = {
    "DEFAULT": _COMMON,
    "manager": _MANAGER,
    "worker": _WORKER,
    "api": _API,
    "metrics": _METRICS,
    "tracing": _TRACING,
    "management": _MANAGEMENT,
}


class ConfigError(Exception):
    """An option has a value that it may not have; the message names option and value's place."""


def load(file: Path | None, overrides: Mapping[tuple[str, str], Any], environment: Mapping[str, str]) -> cfg.ConfigOpts:
    """Read the options.

    ``overrides`` are (group, option) from the command line; None values count as not given.  Raises ConfigError.
    """
    conf = cfg.ConfigOpts()
    for group, options in GROUPS.items():
        conf.register_opts(options, group=None if group == "DEFAULT" else group)
    files = [str(file)] if file else [str(path) for path in DEFAULT_FILES if path.exists()]
    try:
        conf([], project="federation", default_config_files=files)
        for (group, name), value in {**_from_environment(environment), **_given(overrides)}.items():
            _override(conf, group, name, value)
        _check(conf)
    except cfg.ConfigFilesNotFoundError as error:
        message = f"configuration file {', '.join(error.config_files)} is not there"
        raise ConfigError(message) from error
    except (cfg.Error, ValueError) as error:
        raise ConfigError(str(error)) from error
    return conf


def _override(conf: cfg.ConfigOpts, group: str, name: str, value: Any) -> None:
    try:
        conf.set_override(name, value, group=None if group == "DEFAULT" else group)
    except ValueError as error:
        shown = "its value" if _is_secret(group, name) else repr(value)
        message = f"{variable(group, name)} (option {name} of {group}) is {shown}: {error}"
        raise ConfigError(message) from error


def _is_secret(group: str, name: str) -> bool:
    return any(option.secret for option in GROUPS[group] if option.name == name)


def variable(group: str, option: str) -> str:
    """The environment variable of an option."""
    words = ["FEDERATION", *([] if group == "DEFAULT" else [group]), option]
    return "_".join(words).upper()


def _given(overrides: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {place: value for place, value in overrides.items() if value is not None}


def _from_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for group, options in GROUPS.items():
        for option in options:
            name = variable(group, option.name)
            if name in environment:
                found[group, option.name] = environment[name]
            elif f"{name}_FILE" in environment:
                found[group, option.name] = _secret_file(f"{name}_FILE", environment[f"{name}_FILE"])
    return found


def _secret_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"{name} names the file {path}, which cannot be read: {error.strerror}"
        raise ConfigError(message) from error


def _check(conf: cfg.ConfigOpts) -> None:
    if not 0 < conf.manager.margin < conf.manager.lease:
        message = (
            f"manager.margin is {conf.manager.margin} s, expected less than manager.lease ({conf.manager.lease} s)"
        )
        raise ConfigError(message)


def environment() -> dict[str, str]:
    """The process's environment."""
    return dict(os.environ)
