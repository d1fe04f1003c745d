"""``federation demo-real``: the main job on RabbitMQ, libvirt and a real Linux guest, with a worker killed on the way."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console

from federation.cli.session import Session, pass_session
from federation.testing.demonstration.real import RealDemo, Setting, StepFailed


@click.command("demo-real")
@click.option("--libvirt", "uris", envvar="FEDERATION_TEST_LIBVIRT", required=True, help="libvirt URIs, by spaces.")
@click.option("--broker-url", envvar="FEDERATION_TEST_BROKER", help="Broker; that of --broker if not given.")
@click.option(
    "--kernel", envvar="FEDERATION_TEST_GUEST_KERNEL", required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--initrd", envvar="FEDERATION_TEST_GUEST_INITRD", required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--image", envvar="FEDERATION_TEST_GUEST_IMAGE", required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--ready-line", default="FEDERATION-GUEST ready", show_default=True, help="What the guest prints when it is up."
)
@click.option(
    "--disks",
    type=click.Path(path_type=Path),
    help="Folder for disks on every node; beside libvirt's socket if not given.",
)
@pass_session
def demo_real(
    session: Session,
    /,
    uris: str,
    broker_url: str | None,
    kernel: Path,
    initrd: Path,
    image: Path,
    ready_line: str,
    disks: Path | None,
) -> None:
    """Boot a Linux guest through RabbitMQ and libvirt, kill a worker in the middle of an operation, judge the end.

    Ends with status 0 only if every step was seen to work.  Everything it makes is removed again.
    """
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="federation-demo-real-") as folder:
        setting = Setting(
            broker=(broker_url or session.conf.broker).replace("amqp://", "federation://", 1),
            uris=tuple(uris.split()),
            kernel=kernel,
            initrd=initrd,
            image=image,
            ready_line=ready_line,
            disks=disks,
            folder=Path(folder),
        )
        demo = RealDemo(setting, lambda text: console.print(text, markup=False))
        try:
            demo.run()
        except StepFailed as error:
            demo.show_logs()
            raise click.ClickException(str(error)) from error
        finally:
            demo.close()
    if not session.is_table:
        session.emit(demo.seen)
