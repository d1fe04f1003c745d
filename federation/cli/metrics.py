"""The option ``--metrics`` of the processes that run long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from oslo_config import cfg

from federation.bootstrap.metrics import MetricsError, MetricsSettings, read_settings
from federation.bus.errors import AddressError
from federation.cli.session import Session
from federation.observe.serving import Endpoint, EndpointSettings


def metrics_settings(conf: cfg.ConfigOpts, listen: str | None) -> EndpointSettings | None:
    """Where metrics are served, None where they are not; refuses what cannot be before anything starts."""
    if not listen:
        return None
    group = conf.metrics
    try:
        return read_settings(
            MetricsSettings(
                listen=listen,
                certificate=group.certificate,
                private_key=group.private_key,
                client_ca=group.client_ca,
                plain=group.plain,
            )
        )
    except MetricsError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def serving_metrics(
    session: Session, settings: EndpointSettings | None, serve: Callable[[EndpointSettings], Endpoint]
) -> Iterator[None]:
    """Serve metrics, where they are wanted, while the context lasts."""
    if settings is None:
        yield
        return
    try:
        endpoint = serve(settings)
    except (MetricsError, AddressError) as error:
        raise click.ClickException(str(error)) from error
    session.messages.print(f"metrics on {endpoint.address}", markup=False)
    try:
        yield
    finally:
        endpoint.stop()
