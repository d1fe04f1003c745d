"""The options of the group ``tracing``, for the processes that run long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from oslo_config import cfg


@contextmanager
def sending_traces(conf: cfg.ConfigOpts, service: str, instance: str) -> Iterator[None]:
    """Make and send traces, where they are wanted, while the context lasts; enter it before anything that is traced is made."""
    group = conf.tracing
    if not group.endpoint:
        yield
        return
    from federation.bootstrap.tracing import TracingError, start_tracing

    try:
        stop = start_tracing(service, instance, group.endpoint, group.ratio)
    except TracingError as error:
        raise click.ClickException(str(error)) from error
    try:
        yield
    finally:
        stop()
