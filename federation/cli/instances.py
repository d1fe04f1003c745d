"""``federation instance``: create, look at and operate instances."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from federation.cli.completing import complete_clusters, complete_nodes
from federation.cli.declared import (
    INSTANCE,
    OF_CLUSTER,
    ON_CLUSTER,
    commands_of,
    show_result,
    submission_options,
    submit,
)
from federation.cli.examples import examples
from federation.cli.plain_text import plain
from federation.cli.quantities import SIZE
from federation.cli.rendering import age, moment, show_list, show_record, size
from federation.cli.request_options import flavour_of, flavour_options, options_of
from federation.cli.session import Session, pass_session
from federation.cli.waiting import follow
from federation.contract.operations import DECLARED, find
from federation.contract.requests import Adopt, InstanceRequest
from federation.manager.operating import Resolution


@click.group()
def instance() -> None:
    """Create, look at and operate instances."""


def _create_options(command: Any) -> Any:
    options: list[Callable[..., Any]] = [
        click.argument("name"),
        click.option("--cluster", required=True, shell_complete=complete_clusters, help="Where it shall run."),
        click.option(
            "--node", shell_complete=complete_nodes, help="On which node; chosen by free resources if not given."
        ),
        *flavour_options(),
        click.option("--image", metavar="URL", help="Boot from a copy of this disk image."),
        click.option("--format", "image_format", type=click.Choice(["qcow2", "raw", "vmdk", "vhdx"]), default="qcow2"),
        click.option("--checksum", metavar="sha256:HEX", help="Of the image's file."),
        click.option("--root-disk", type=SIZE, help="Size of the root disk; the image's own if not given."),
        click.option("--template", help="Boot from a clone of this template."),
        click.option("--volume", help="Boot from this volume."),
        click.option("--pool", help="Where template or volume are kept; the driver's own storage if not given."),
        click.option("--linked", is_flag=True, help="Share the template's unchanged blocks instead of copying them."),
        click.option("--kernel", metavar="URL", help="Boot this kernel; give --initrd too."),
        click.option("--kernel-checksum", metavar="sha256:HEX"),
        click.option("--initrd", metavar="URL"),
        click.option("--initrd-checksum", metavar="sha256:HEX"),
        click.option("--command-line", default="", help="The kernel's command line."),
        click.option("--data-disk", "data_disks", type=SIZE, multiple=True, help="A blank disk of this size; repeat."),
        click.option("--network", "networks", multiple=True, help="Connect an interface to this network; repeat."),
        click.option(
            "--user-data", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="cloud-init file."
        ),
        click.option("--ssh-key", "ssh_keys", multiple=True, help="A line of authorized_keys; repeat."),
        click.option("--start/--no-start", default=True, show_default=True, help="Start it when it is made."),
        submission_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@instance.command(
    "create",
    epilog=examples(
        "federation instance create web-1 --cluster lab --vcpus 2 --memory 2GiB --image https://images.example.org/debian.qcow2 "
        f"--checksum sha256:{'0' * 64} --network default",
        "federation instance create web-2 --cluster prod --vcpus 2 --memory 2GiB --template golden --linked --no-wait",
    ),
)
@_create_options
@pass_session
def create(session: Session, /, name: str, cluster: str, start: bool, **values: Any) -> None:  # noqa: FBT001 (click's flag)
    """Make an instance and start it.

    Boot it from one of --image, --template, --volume or --kernel.
    """
    spec: dict[str, Any] = {"name": name, "flavour": flavour_of(values), "boot": _boot(values)}
    if values["node"]:
        spec["node"] = values["node"]
    if values["data_disks"]:
        spec["data_disks"] = [{"size_bytes": disk} for disk in values["data_disks"]]
    if values["networks"]:
        spec["interfaces"] = [{"network": network} for network in values["networks"]]
    if values["user_data"] or values["ssh_keys"]:
        user_data = values["user_data"].read_text(encoding="utf-8") if values["user_data"] else ""
        spec["guest"] = {"user_data": user_data, "ssh_keys": list(values["ssh_keys"])}
    submit(session, values, name="create", cluster=cluster, arguments={"spec": spec, "start": start})


def _boot(values: dict[str, Any]) -> dict[str, Any]:
    sources = [source for source in ("image", "template", "volume", "kernel") if values[source]]
    if len(sources) != 1:
        message = (
            f"give exactly one of --image, --template, --volume, --kernel; given are: {', '.join(sources) or 'none'}"
        )
        raise click.UsageError(message)
    source = sources[0]
    if source == "image":
        _need(values, "image", "checksum")
        boot = {"url": values["image"], "checksum": values["checksum"], "format": values["image_format"]}
        return {"kind": source, **boot, **({"size_bytes": values["root_disk"]} if values["root_disk"] else {})}
    if source == "kernel":
        _need(values, "kernel", "kernel_checksum", "initrd", "initrd_checksum")
        names = {"kernel_url": "kernel", "initrd_url": "initrd"}
        names |= {name: name for name in ("kernel_checksum", "initrd_checksum", "command_line")}
        return {"kind": source, **{field: values[name] for field, name in names.items()}}
    optional = {"pool": values["pool"]}
    if source == "template":
        optional |= {"linked": values["linked"], "size_bytes": values["root_disk"]}
    return {"kind": source, source: values[source], **{name: value for name, value in optional.items() if value}}


def _need(values: dict[str, Any], source: str, *names: str) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if not values[name]]
    if missing:
        message = f"--{source} needs {', '.join(missing)}"
        raise click.UsageError(message)


@instance.command("list", epilog=examples("federation instance list", "federation instance list --cluster lab -o json"))
@OF_CLUSTER
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@click.option("--after", metavar="ID", help="Continue behind this instance.")
@pass_session
def list_(session: Session, /, cluster: str | None, limit: int, after: str | None) -> None:
    """List instances as the manager knows them."""
    records = session.ask("instances", cluster=cluster, limit=limit, after=after)
    now = time.time()
    columns = {
        "ID": lambda i: i["id"],
        "NAME": lambda i: i["name"],
        "STATE": lambda i: "parked" if i["parked_by"] else i["state"],
        "CLUSTER": lambda i: i["cluster"],
        "NODE": lambda i: i["node"],
        "VCPUS": lambda i: i["vcpus"],
        "MEMORY": lambda i: size(i["memory_bytes"]),
        "AGE": lambda i: age(i["created_at"], now),
    }
    show_list(session, records, columns, "no instances")
    if len(records) == limit and session.is_table:
        session.messages.print(f"more: --after {records[-1]['id']}", markup=False)


@instance.command("show", epilog=examples("federation instance show web-1", "federation instance show web-1 --live"))
@INSTANCE
@ON_CLUSTER
@click.option("--live", is_flag=True, help="Ask the hypervisor, by a worker, instead of the manager's record.")
@pass_session
def show(session: Session, /, instance: str, cluster: str | None, live: bool) -> None:  # noqa: FBT001 (click's flag)
    """Show one instance, by id or name."""
    if live:
        seen = session.ask("read", name="get_instance", instance=instance, cluster=cluster)
        show_result(session, find("get_instance").result, seen)
        return
    record = session.ask("instance", instance=instance, cluster=cluster)
    facts = {
        "id": lambda i: i["id"],
        "name": lambda i: i["name"],
        "state": lambda i: i["state"],
        "parked by": lambda i: i["parked_by"],
        "cluster": lambda i: i["cluster"],
        "node": lambda i: i["node"],
        "vcpus": lambda i: i["vcpus"],
        "memory": lambda i: size(i["memory_bytes"]),
        "created": lambda i: moment(i["created_at"]),
        "updated": lambda i: moment(i["updated_at"]),
    }
    show_record(session, record, facts)


@instance.command("console-log", epilog=examples("federation instance console-log web-1 --max-bytes 4096"))
@INSTANCE
@ON_CLUSTER
@click.option("--max-bytes", type=click.IntRange(1, 1 << 18), default=65536, show_default=True)
@pass_session
def console_log(session: Session, /, instance: str, cluster: str | None, max_bytes: int) -> None:
    """Print what the guest printed last on its serial console.

    On a terminal its control characters are spelled out; a file or a pipe gets them as they are.
    """
    arguments = {"max_bytes": max_bytes}
    output = session.ask("read", name="get_console_output", instance=instance, cluster=cluster, arguments=arguments)
    if not session.is_table:
        session.emit(output)
        return
    text = output["text"]
    if session.is_terminal:
        text = plain(text.replace("\r\n", "\n"))
    click.echo(text, nl=not text.endswith("\n"))


@instance.command("resolve", epilog=examples("federation instance resolve web-1 --retry"))
@INSTANCE
@ON_CLUSTER
@click.option(
    "--retry", "resolution", flag_value=Resolution.RETRY.value, help="Send the operation again, as a new one."
)
@click.option("--accept", "resolution", flag_value=Resolution.ACCEPT.value, help="It took effect; go on.")
@click.option(
    "--abandon", "resolution", flag_value=Resolution.ABANDON.value, help="It did not, or does not matter; go on."
)
@pass_session
def resolve(session: Session, /, instance: str, cluster: str | None, resolution: str | None) -> None:
    """Unpark an instance whose last operation has an unknown outcome.

    Look at it on the hypervisor first (instance show --live), then say what is true.
    """
    if resolution is None:
        message = "give one of --retry, --accept, --abandon"
        raise click.UsageError(message)
    retried = session.ask(
        "resolve", instance=instance, cluster=cluster, resolution=resolution, requested_by=session.user
    )
    if retried is None:
        session.messages.print(f"{instance}: resolved ({resolution})", markup=False)
        return
    follow(session, retried)


_ADOPT = options_of(Adopt, leave_out=frozenset({"instance", "name"}))


def _adopt_options(command: Any) -> Any:
    for option in reversed(_ADOPT.options):
        command = option(command)
    return command


@instance.command(
    "adopt",
    epilog=examples(
        "federation instance adopt 0197c1e0-5a3b-7c11-8a54-2f6d1e0c9b01 --cluster lab --name old-1"
        f"{''.join(f' {word}' for word in _ADOPT.example)}"
    ),
)
@click.argument("machine", metavar="ID")
@click.option("--cluster", required=True, shell_complete=complete_clusters, help="The cluster that it runs on.")
@click.option("--name", required=True, help="Its name from now on.")
@_adopt_options
@submission_options
@pass_session
def adopt(session: Session, /, machine: str, cluster: str, name: str, **values: Any) -> None:
    """Take over a machine that exists, without restarting it.

    ID is that of federation instance foreign.
    """
    arguments = {"instance": machine, "name": name, **_ADOPT.gather(values)}
    submit(session, values, name="adopt", cluster=cluster, arguments=arguments)


@instance.command("foreign", epilog=examples("federation instance foreign --cluster lab"))
@click.option("--cluster", required=True, shell_complete=complete_clusters, help="Whose machines.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@click.option("--after", metavar="ID", help="Continue behind this machine.")
@pass_session
def foreign(session: Session, /, cluster: str, limit: int, after: str | None) -> None:
    """List machines on the hypervisors that are not ours; they are never touched unless adopted."""
    arguments = {"limit": limit, "foreign": True, **({"after": after} if after else {})}
    page = session.ask("read", name="list_instances", cluster=cluster, arguments=arguments)
    records = [machine for machine in page["instances"] if not machine["owned"]]
    columns = {
        "ID": lambda i: i["id"],
        "NAME": lambda i: i["name"],
        "STATE": lambda i: i["power_state"],
        "NODE": lambda i: i["node"],
        "VCPUS": lambda i: i["vcpus"],
        "MEMORY": lambda i: size(i["memory_bytes"]),
    }
    show_list(session, records, columns, "no foreign machines")
    if session.is_table:
        for name in page["unreachable"]:
            session.messages.print(f"node {name} did not answer: what it holds is missing here", markup=False)
        if page["next"]:
            session.messages.print(f"more: --after {page['next']}", markup=False)


_WRITTEN_OUT = {"create", "adopt", "get_instance", "get_console_output"}
for _command in commands_of(
    each for each in DECLARED if issubclass(each.request, InstanceRequest) and each.name not in _WRITTEN_OUT
):
    instance.add_command(_command)
