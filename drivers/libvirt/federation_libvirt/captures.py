"""capture_image: the root disk of a stopped instance as a template of the pool, or as a file behind a URL.

1. A template is two volumes, as a cached image is (``names``): the flattened copy, named by template and operation, and an
   empty mark, made when the copy is complete.  A repeat finds the mark, or deletes the copy and makes it anew.
2. Two captures of one name at the same moment see each other's marks, and who sees another yields.
3. For a URL the copy is a volume that begins with the instance's id; it is read through libvirt and sent by the worker.
   When it has arrived, our metadata says so together with the result, and the copy is deleted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial

from federation.contract.captures import CapturedImage, CaptureTemplate, CaptureUpload
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    InvalidState,
    NotSupported,
    OperationError,
)
from federation.contract.instances import ImageFormat, PowerState
from federation.contract.requests import CaptureImage
from federation_libvirt import copies, device_xml, image_format, names
from federation_libvirt.attempt import Attempt
from federation_libvirt.copies import Share
from federation_libvirt.fleet import Fleet
from federation_libvirt.images import check_allowed
from federation_libvirt.machine import Machine, replaced
from federation_libvirt.storage import Clone, Pool, Source
from federation_libvirt.undoing import undone_on_error
from federation_libvirt.uploads import Upload
from federation_libvirt.volumes import file_pool


def capture(fleet: Fleet, attempt: Attempt, request: CaptureImage) -> CapturedImage:
    """Make the image; the instance stays as it is."""
    target = request.target
    if isinstance(target, CaptureUpload):
        _check_upload(fleet, target)
    machine = fleet.find(request.instance)
    if isinstance(target, CaptureTemplate):
        return _to_template(attempt, machine, target)
    return _to_url(attempt, machine, target)


def _to_template(attempt: Attempt, machine: Machine, target: CaptureTemplate) -> CapturedImage:
    pool = file_pool(machine.host, target.pool)
    for found in names.templates(target.template, pool.volumes()):
        if found.operation == attempt.operation:
            return _template(target, pool, found.virtual_bytes)
        raise _taken(machine, target, pool)
    source, _ = _root(attempt, machine)
    content = names.template_content(target.template, attempt.operation)
    with undone_on_error(attempt, partial(_undo_template, attempt, machine, pool, target)):
        _clear(attempt, machine, pool, content)
        wanted = Clone(source=source, name=content, format=ImageFormat.QCOW2, template=True)
        copies.copy(attempt, machine.host, pool, wanted, Share(0, 100))
        virtual = _capacity(machine, pool, content)
        mark = names.template_mark(target.template, attempt.operation, virtual)
        pool.make(attempt, mark, shared=True)
        if len(names.templates(target.template, pool.volumes())) > 1:
            raise _taken(machine, target, pool)
    return _template(target, pool, virtual)


def _to_url(attempt: Attempt, machine: Machine, target: CaptureUpload) -> CapturedImage:
    pool, copy = machine.host.disks, names.capture(machine.instance, attempt.operation)
    upload = Upload(target.url, machine.host.settings.uploads, attempt)
    owner = machine.owner()
    if not owner.captured.startswith(attempt.operation):
        source, virtual = _root(attempt, machine)
        with undone_on_error(attempt, partial(_undo_upload, attempt, machine, upload)):
            _clear(attempt, machine, pool, copy)
            wanted = Clone(source=source, name=copy, format=target.format)
            copies.copy(attempt, machine.host, pool, wanted, Share(0, 50))
            length = pool.length(copy) or 0
            sent = upload.send(lambda: pool.content(copy), length)
            note = f"{attempt.operation} {sent.length} {virtual} {sent.checksum}"
            owner = replaced(machine.owner(), captured=note)
            machine.write_owner(attempt, owner, live=False)
    try:
        _tidy_up(attempt, machine, upload)
    except OperationError as error:
        if error is not attempt.interruption:
            raise
        _tidy_up(attempt, machine, upload)  # it has arrived: a cancel comes too late
    return _uploaded(target, owner.captured)


def _tidy_up(attempt: Attempt, machine: Machine, upload: Upload) -> None:
    copy = names.capture(machine.instance, attempt.operation)
    if copy in machine.host.disks.volumes():
        machine.host.disks.delete(attempt, copy)
    upload.forget()


def _uploaded(target: CaptureUpload, note: str) -> CapturedImage:
    _, size, virtual, checksum = note.split(" ")
    return CapturedImage(
        format=target.format,
        virtual_size_bytes=int(virtual),
        url=target.url,
        checksum=checksum,
        size_bytes=int(size),
    )


def _template(target: CaptureTemplate, pool: Pool, virtual: int) -> CapturedImage:
    return CapturedImage(format=ImageFormat.QCOW2, virtual_size_bytes=virtual, template=target.template, pool=pool.name)


def _check_upload(fleet: Fleet, target: CaptureUpload) -> None:
    if target.format not in image_format.SUPPORTED:
        supported = ", ".join(sorted(image_format.SUPPORTED))
        raise NotSupported(f"image format {target.format} is not supported; supported: {supported}")
    check_allowed(target.url, fleet.settings.uploads)


def _root(attempt: Attempt, machine: Machine) -> tuple[Source, int]:
    """The volume of the root disk, and bytes of the disk in it; InvalidState when it cannot be captured now."""
    look = machine.wait_idle(attempt)
    if look.power_state is not PowerState.STOPPED:
        raise InvalidState(
            f"{machine.instance} is {look.power_state}, capture_image needs it {PowerState.STOPPED}",
            power_state=look.power_state,
            expected=PowerState.STOPPED,
        )
    disk = _root_disk(machine)
    folder, _, volume = device_xml.path_of(disk).rpartition("/")
    pool = machine.host.pool_folders().get(folder)
    if pool is None:
        raise InvalidState(f"the root disk of {machine.instance} lies in no storage pool of the settings")
    source = Source(pool=machine.host.pool(pool), name=volume, format=device_xml.format_of(disk))
    return source, _capacity(machine, source.pool, volume)


def _root_disk(machine: Machine) -> ET.Element:
    definition = machine.definition()
    for disk in definition.iterfind("devices/disk"):
        if device_xml.boots_from(definition, disk) and disk.find("readonly") is None:
            return disk
    raise InvalidState(f"{machine.instance} has no root disk: it boots from a kernel", instance=machine.instance)


def _capacity(machine: Machine, pool: Pool, volume: str) -> int:
    found = pool.capacity(volume)
    if found is None:
        raise Conflict(f"{machine.host.node}: volume {volume} was deleted meanwhile", volume=volume)
    return found


def _clear(attempt: Attempt, machine: Machine, pool: Pool, volume: str) -> None:
    """Delete what an earlier attempt began; a copy that libvirt is still making is waited for."""
    if volume in pool.volumes():
        pool.delete(attempt, volume, machine.host.settings.timeouts.copy_seconds)


def _undo_template(
    attempt: Attempt, machine: Machine, pool: Pool, target: CaptureTemplate, _cause: OperationError
) -> None:
    for found in names.templates(target.template, pool.volumes()):
        if found.operation == attempt.operation:
            pool.delete(attempt, names.template_mark(target.template, found.operation, found.virtual_bytes))
    _clear(attempt, machine, pool, names.template_content(target.template, attempt.operation))


def _undo_upload(attempt: Attempt, machine: Machine, upload: Upload, _cause: OperationError) -> None:
    upload.undo()
    _clear(attempt, machine, machine.host.disks, names.capture(machine.instance, attempt.operation))


def _taken(machine: Machine, target: CaptureTemplate, pool: Pool) -> AlreadyExists:
    return AlreadyExists(
        f"{machine.host.node}: storage pool {pool.name} has a template {target.template} already",
        template=target.template,
    )
