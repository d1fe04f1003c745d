"""`federation-hyperv-sim`: simulated Hyper-V hosts on this machine, to try the driver without Windows."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import click

from federation_hyperv.testing.cluster import Settings, SimulatedCluster
from federation_hyperv.testing.faults import Fault, FaultKind
from federation_hyperv.testing.host import HostFacts


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Where the hosts' disks and the effect log lie.")  # fmt: skip
@click.option("--host", "names", multiple=True, default=("HV1",), show_default=True, help="A host's name; repeat it.")
@click.option("--address", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The first host's port; 0 takes free ones.")
@click.option("--user", default="federation", show_default=True, help="The account that the hosts accept.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A file with its password; without it FEDERATION_HYPERV_SIM_PASSWORD is taken.")  # fmt: skip
@click.option("--certificate", default="", help="A TLS certificate; without it the hosts speak plain HTTP.")
@click.option("--certificate-key", default="", help="Its private key.")
@click.option("--client-ca", default="", help="The authority whose client certificates log in as the account.")
@click.option("--client-subject", default="", help="The user (UPN) that they must name; * matches anything.")
@click.option("--keytab", default="", help="Keys of host/localhost: Kerberos logs in, too.")
@click.option("--kerberos-principal", default="", help="Who logs in by Kerberos: name@REALM.")
@click.option("--max-envelope-kb", type=click.IntRange(32), default=500, show_default=True,
              help="WinRM's MaxEnvelopeSizekb.")  # fmt: skip
@click.option("--allow-unencrypted", is_flag=True, help="Accept Basic and unsealed messages over plain HTTP.")
@click.option("--switch", "switches", multiple=True, default=("external",), show_default=True,
              help="A virtual switch of every host.")  # fmt: skip
@click.option("--processors", type=click.IntRange(1), default=16, show_default=True, help="Of each host.")
@click.option("--memory-bytes", type=click.IntRange(1 << 30), default=64 << 30, show_default=True, help="Of each host.")
@click.option("--job-seconds", type=click.FloatRange(0), default=0.5, show_default=True, help="How long a job takes.")
@click.option("--fault", "faults", multiple=True, metavar="KIND:ACTION[:HOST[:TIMES]]",
              help=f"A fault to order at the start; kinds: {', '.join(FaultKind)}.")  # fmt: skip
def main(
    *, folder: Path, names: tuple[str, ...], address: str, port: int, user: str, password_file: Path | None,
    certificate: str, certificate_key: str, client_ca: str, client_subject: str, keytab: str,
    kerberos_principal: str, max_envelope_kb: int, allow_unencrypted: bool,
    switches: tuple[str, ...], processors: int, memory_bytes: int, job_seconds: float, faults: tuple[str, ...],
) -> None:  # fmt: skip
    """Run simulated Hyper-V hosts until interrupted; the first line printed is JSON and says where they listen."""
    password = _password(password_file)
    facts = tuple(
        HostFacts(
            name=name,
            processors=processors,
            memory_bytes=memory_bytes,
            switches=switches,
            job_seconds=job_seconds,
            max_envelope_bytes=max_envelope_kb << 10,
        )
        for name in names
    )
    settings = Settings(
        hosts=facts, username=user, password=password, certificate_file=certificate,
        certificate_key_file=certificate_key, client_ca_file=client_ca, client_subject=client_subject,
        keytab_file=keytab, kerberos_principal=kerberos_principal,
        allow_unencrypted=allow_unencrypted, address=address, first_port=port,
    )  # fmt: skip
    cluster = SimulatedCluster(folder, settings)
    for text in faults:
        cluster.order(_fault(text))
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    cluster.start()
    where = {name: {"address": address, "port": cluster.port(name)} for name in names}
    click.echo(
        json.dumps({"hosts": where, "user": user, "tls": bool(certificate), "effects": str(cluster.effects_file)})
    )
    sys.stdout.flush()
    stopped.wait()
    cluster.stop()


def _password(file: Path | None) -> str:
    password = file.read_text().strip() if file else os.environ.get("FEDERATION_HYPERV_SIM_PASSWORD", "")
    if not password:
        raise click.UsageError("give --password-file, or FEDERATION_HYPERV_SIM_PASSWORD in the environment")
    return password


def _fault(text: str) -> Fault:
    kind, _, rest = text.partition(":")
    action, host, times = (*rest.split(":"), "", "", "")[:3]
    if kind not in list(FaultKind):
        raise click.BadParameter(f"{kind!r} is no fault; there are {', '.join(FaultKind)}", param_hint="--fault")
    return Fault(kind=FaultKind(kind), action=action, host=host, times=int(times or 1))
