r"""Files on a host: disks by Hyper-V's image service, names and sizes by CIM_DataFile, contents by the mounted share.

CIM_DataFile and Win32_LogicalDisk are classes of root\cimv2; sources: their pages on learn.microsoft.com
(``windows/win32/cimwin32prov``).  They know local drives only, so a folder on a share (``\\server\share``) is listed,
renamed and emptied through the worker's own mount of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from federation.contract.errors import (
    BackendUnavailable,
    Conflict,
    HypervisorRefused,
    NotFound,
    NotSupported,
    OperationError,
    PermissionDenied,
)
from federation_hyperv import msvm, names
from federation_hyperv.attempt import Attempt
from federation_hyperv.cim import CIMV2, Instance, Reference, Value
from federation_hyperv.host import IMAGES, Host, quoted

logger = logging.getLogger(__name__)

_EXISTS, _IN_USE, _DENIED, _NOT_THERE = 10, 15, 2, 9
"""What CIM_DataFile's methods return."""
CHUNK_BYTES = 4 << 20


class Store:
    """One folder of one host."""

    def __init__(self, host: Host, folder: str, mount: str | None = None) -> None:
        self.host = host
        self.folder = folder
        self._mount = None if mount is None else Path(mount)

    def path(self, file: str) -> str:
        """The path on the host."""
        return names.join(self.folder, file)

    def files(self) -> dict[str, int]:
        """Names and sizes of the files in the folder."""
        if _is_share(self.folder):
            return {entry.name: entry.stat().st_size for entry in self._entries()}
        drive, path = self.folder[:2], self.folder[2:] + "\\"
        found = self.host.select(
            "CIM_DataFile", f"Drive = '{drive}' AND Path = '{quoted(path)}'", "Name, FileSize", CIMV2
        )
        return {names.split(str(one["Name"]))[1]: int(one["FileSize"] or 0) for one in found}

    def has(self, file: str) -> bool:
        """Whether there is a file of that name; Windows does not tell upper case from lower."""
        if _is_share(self.folder):
            return file.casefold() in {name.casefold() for name in self.files()}
        return self.host.link.get(self._reference(file)) is not None

    def delete(self, attempt: Attempt, file: str) -> None:
        """Delete a file; one that is not there stays away.  Conflict when something has it open."""
        if _is_share(self.folder):
            attempt.guard()
            with self._translated(file):
                self.local(file).unlink(missing_ok=True)
            return
        self._change_file(attempt, file, "Delete", {}, gone_is_fine=True)

    def rename(self, attempt: Attempt, file: str, wanted: str) -> bool:
        """Rename a file; false when there is one of the wanted name already."""
        if _is_share(self.folder):
            attempt.guard()
            with self._translated(file):
                os.link(self.local(file), self.local(wanted))
                self.local(file).unlink()
            return True
        return self._change_file(attempt, file, "Rename", {"FileName": self.path(wanted)}) != _EXISTS

    def make(self, attempt: Attempt, what: str, disk: Instance) -> None:
        """Make a disk file; fails when there is one of that name."""
        self._image(attempt, what, "CreateVirtualHardDisk", {"VirtualDiskSettingData": disk})

    def copy(self, attempt: Attempt, source: str, wanted: str) -> None:
        """Copy a disk with all its parents into one new file."""
        parameters: dict[str, Value] = {
            "SourcePath": source,
            "VirtualDiskSettingData": msvm.copied_disk(self.path(wanted)),
        }
        self._image(attempt, f"copy {source}", "ConvertVirtualHardDisk", parameters)

    def grow(self, attempt: Attempt, path: str, size_bytes: int) -> None:
        """Make the disk that the guest sees larger."""
        parameters: dict[str, Value] = {"Path": path, "MaxInternalSize": size_bytes}
        self._image(attempt, f"extend {path}", "ResizeVirtualHardDisk", parameters)

    def size(self, path: str) -> int:
        """Bytes of the disk that a guest sees; what the host says when it cannot read it."""
        reply = self.host.ask(self.host.service(IMAGES), "GetVirtualHardDiskSettingData", {"Path": path})
        return int(reply.embedded("SettingData").get("MaxInternalSize") or 0)

    def parent(self, path: str) -> str:
        """The file that a differencing disk continues; empty when it is none."""
        reply = self.host.ask(self.host.service(IMAGES), "GetVirtualHardDiskSettingData", {"Path": path})
        return str(reply.embedded("SettingData").get("ParentPath") or "")

    def space(self) -> tuple[int | None, int | None]:
        """Bytes of the drive and of what is used of it; None where nobody says."""
        if _is_share(self.folder):
            if self._mount is None:
                return None, None
            with self._translated(str(self._mount)):
                facts = os.statvfs(self._mount)
            total = facts.f_blocks * facts.f_frsize
            return total, total - facts.f_bavail * facts.f_frsize
        found = self.host.select("Win32_LogicalDisk", f"DeviceID = '{self.folder[:2]}'", "Size, FreeSpace", CIMV2)
        if not found or found[0]["Size"] is None:
            return None, None
        total, free = int(found[0]["Size"]), int(found[0]["FreeSpace"] or 0)
        return total, total - free

    @property
    def mounted(self) -> bool:
        """Whether the worker sees the folder."""
        return self._mount is not None

    def local(self, file: str) -> Path:
        """The file as the worker sees it; NotSupported when the folder is not mounted."""
        if self._mount is None:
            told = f"node {self.host.node} has no mount in the settings: images and user data cannot be delivered"
            raise NotSupported(told, node=self.host.node)
        return self._mount / file

    def put(self, attempt: Attempt, file: str, content: bytes) -> None:
        """Write a small file under its name, whole or not at all."""
        part = self.local(f"{file}.part")
        attempt.guard()
        with self._translated(file):
            part.write_bytes(content)
            part.replace(self.local(file))

    def fetch(self, attempt: Attempt, part: str, chunks: Iterator[bytes], told: Callable[[int], None]) -> None:
        """Write a file piece by piece under a name that nobody else uses."""
        written = 0
        with self._translated(part), self.local(part).open("wb") as file:
            for chunk in chunks:
                attempt.sleep(0)
                file.write(chunk)
                written += len(chunk)
                told(written)
            file.flush()
            os.fsync(file.fileno())

    def adopt_fetched(self, part: str, wanted: str) -> None:
        """Give a complete file its name; another worker's of that name is the same file."""
        with self._translated(wanted):
            self.local(part).replace(self.local(wanted))

    def drop_fetched(self, part: str) -> None:
        """Remove what was fetched in part."""
        with self._translated(part):
            self.local(part).unlink(missing_ok=True)

    def read(self, file: str) -> Iterator[bytes]:
        """The content of a file in pieces."""
        with self._translated(file), self.local(file).open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                yield chunk

    def _image(self, attempt: Attempt, what: str, method: str, parameters: dict[str, Value]) -> None:
        seconds = self.host.timeouts.copy_seconds
        self.host.run(attempt, what, self.host.service(IMAGES), method, parameters, seconds=seconds, stage=what)

    def _change_file(
        self, attempt: Attempt, file: str, method: str, parameters: dict[str, Value], *, gone_is_fine: bool = False
    ) -> int:
        target = self._reference(file)
        attempt.guard()
        try:
            code = self.host.link.code_of(target, method, parameters)
        except NotFound:
            if gone_is_fine:
                return 0
            raise
        if code in {0, _EXISTS} or (gone_is_fine and code == _NOT_THERE):
            return code
        told = f"{self.host.node}: {method} of {self.path(file)} answered {code}"
        if code == _DENIED:
            raise PermissionDenied(f"{told} (access denied, or something has it open)", path=self.path(file))
        if code == _IN_USE:
            raise Conflict(f"{told} (something has it open)", path=self.path(file))
        raise HypervisorRefused(told, path=self.path(file), code=code)

    def _reference(self, file: str) -> Reference:
        return Reference("CIM_DataFile", (("Name", self.path(file)),), CIMV2)

    def _entries(self) -> list[os.DirEntry[str]]:
        if self._mount is None:
            raise NotSupported(f"{self.folder} is a share, and node {self.host.node} has no mount in the settings")
        with self._translated(self.folder), os.scandir(self._mount) as entries:
            return [entry for entry in entries if entry.is_file()]

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OperationError:
            raise
        except OSError as error:
            told = f"node {self.host.node}: {what} in the mounted folder: {error.strerror or type(error).__name__}"
            raise BackendUnavailable(told, node=self.host.node) from error


def _is_share(folder: str) -> bool:
    return folder.startswith("\\\\")
