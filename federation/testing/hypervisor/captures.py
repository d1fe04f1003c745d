"""capture_image of the simulated driver."""

from __future__ import annotations

from pathlib import Path

import msgspec

from federation.contract import requests as r
from federation.contract.captures import CapturedImage, CaptureTemplate, CaptureUpload
from federation.contract.errors import AlreadyExists, Conflict, InvalidRequest, InvalidState
from federation.contract.instances import ImageFormat, PowerState
from federation.testing.hypervisor import stored
from federation.testing.hypervisor.image_files import local_path
from federation.testing.hypervisor.pools import find_stored, pool_of
from federation.testing.hypervisor.records import Disk, Machine
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, require_state, step, undoing


def capture_image(session: Session, request: r.CaptureImage) -> CapturedImage:
    """Two calls for a template, writing it and publishing it; one for a file.  Both bear the operation's id."""
    if isinstance(request.target, CaptureTemplate):
        return _as_template(session, request.target)
    return _as_file(session, request.target)


def _as_template(session: Session, target: CaptureTemplate) -> CapturedImage:
    settings, operation = session.hypervisor.settings, session.call.operation
    pool = pool_of(session, target.pool)
    with undoing(session, lambda session: _delete_template(session, pool, target.template)):
        machine, root = _root_of_stopped(session)
        there = find_stored(session, stored.TEMPLATE, pool, target.template)
        if there is not None and there.made_by != operation:
            message = f"template {target.template} exists already in pool {pool}"
            raise AlreadyExists(message, template=target.template, pool=pool)
        made = stored.Stored(
            kind=stored.TEMPLATE, pool=pool, name=target.template, size_bytes=root.size_bytes,
            format=str(settings.format_of(None)), made_by=operation, generation=root.generation,
            content=root.content, complete=False,
        )  # fmt: skip

        def written(_machine: Machine | None) -> bool:
            there = find_stored(session, stored.TEMPLATE, pool, target.template)
            return there is not None and there.made_by == operation

        def published(_machine: Machine | None) -> bool:
            there = find_stored(session, stored.TEMPLATE, pool, target.template)
            return there is not None and there.made_by == operation and there.complete

        session.call.progress(5.0, f"copying the root disk of {machine.id}")
        step(
            session, "write_template", written, target=target.template,
            stored=msgspec.to_builtins(made), capacity_bytes=settings.pool_bytes,
        )  # fmt: skip
        session.call.progress(95.0, "publishing the template")
        step(session, "publish_template", published, target=target.template, pool=pool, name=target.template)
        return CapturedImage(
            format=settings.format_of(None), virtual_size_bytes=root.size_bytes, template=target.template, pool=pool
        )


def _as_file(session: Session, target: CaptureUpload) -> CapturedImage:
    settings, operation = session.hypervisor.settings, session.call.operation
    if target.format not in settings.profile.formats:
        takes = ", ".join(settings.profile.formats)
        message = f"capture_image: format {target.format} is none that {settings.profile.product} writes: {takes}"
        raise InvalidRequest(message, field="target.format", value=target.format)
    path = local_path(settings, target.url)
    with undoing(session, lambda session: _delete_file(session, path)):
        _, root = _root_of_stopped(session)
        there = session.look("read_image", lambda _connection: stored.read_image(path))
        if there is not None and there[0].made_by != operation:
            raise AlreadyExists(f"capture_image: there is a file at {target.url} already", url=target.url)
        image = stored.ImageFile(
            format=str(target.format), virtual_size_bytes=root.size_bytes, generation=root.generation,
            content=root.content, made_by=operation,
        )  # fmt: skip

        def written(_machine: Machine | None) -> bool:
            found = session.look("read_image", lambda _connection: stored.read_image(path))
            return found is not None and found[0].made_by == operation

        session.call.progress(5.0, "writing the image")
        step(session, "upload_image", written, target=target.url, path=str(path), image=msgspec.to_builtins(image))
        return _uploaded(session, target, path)


def _uploaded(session: Session, target: CaptureUpload, path: Path) -> CapturedImage:
    found = session.look("read_image", lambda _connection: stored.read_image(path))
    if found is None:
        raise Conflict(f"the image at {target.url} was taken away meanwhile", url=target.url)
    image, checksum, size = found
    return CapturedImage(
        format=ImageFormat(image.format), virtual_size_bytes=image.virtual_size_bytes, url=target.url,
        checksum=checksum, size_bytes=size,
    )  # fmt: skip


def _root_of_stopped(session: Session) -> tuple[Machine, Disk]:
    machine = require(session)
    require_state(machine, "capture_image", PowerState.STOPPED)
    if machine.root is None:
        message = f"capture_image: instance {machine.id} has no root disk"
        raise InvalidState(message, instance=machine.id)
    return machine, machine.root


def _delete_template(session: Session, pool: str, name: str) -> None:
    there = find_stored(session, stored.TEMPLATE, pool, name)
    if there is not None and there.made_by == session.call.operation:
        session.change("delete_template", target=name, pool=pool, name=name)


def _delete_file(session: Session, path: Path) -> None:
    there = session.look("read_image", lambda _connection: stored.read_image(path))
    if there is not None and there[0].made_by == session.call.operation:
        session.change("delete_image", target=path.name, path=str(path))
