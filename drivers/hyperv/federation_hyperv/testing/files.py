r"""The file system of a simulated host: `C:\…` below the host's own folder, `\\server\share\…` below one for all hosts."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from pathlib import Path

from federation_hyperv.cim import Instance
from federation_hyperv.testing.wql import Select

_LOCAL = re.compile(r"^([A-Za-z]):[\\/]+(.*)$", re.DOTALL)
_SHARE = re.compile(r"^[\\/]{2}([^\\/]+)[\\/]+(.+)$", re.DOTALL)


class BadPath(Exception):
    """A path that names no file here."""


class Files:
    """Windows paths on Linux; names are compared without case where a file of another case exists."""

    def __init__(self, own: Path, shared: Path) -> None:
        self._own = own
        self._shared = shared
        own.mkdir(parents=True, exist_ok=True)
        shared.mkdir(parents=True, exist_ok=True)

    def place(self, path: str) -> Path:
        """Where a Windows path lies; BadPath when it is not absolute or climbs out."""
        if found := _LOCAL.match(path):
            root, rest = self._own / found[1].upper(), found[2]
        elif found := _SHARE.match(path):
            root, rest = self._shared / found[1].lower(), found[2]
        else:
            raise BadPath(path)
        parts = [part for part in re.split(r"[\\/]+", rest) if part not in {"", "."}]
        if ".." in parts:
            raise BadPath(path)
        place = root
        for part in parts:
            place = self._any_case(place, part)
        return place

    @staticmethod
    def _any_case(folder: Path, name: str) -> Path:
        exact = folder / name
        if exact.exists() or not folder.is_dir():
            return exact
        return next((item for item in folder.iterdir() if item.name.lower() == name.lower()), exact)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return self.place(path).exists()

    def is_shared(self, path: str) -> bool:
        """Whether every host sees it."""
        return _LOCAL.match(path) is None

    def data_file(self, path: str) -> Instance | None:
        """The CIM_DataFile or Win32_Directory of a path; None when nothing is there."""
        try:
            place = self.place(path)
        except BadPath:
            return None
        if not place.exists():
            return None
        folder, _, name = path.rpartition("\\")
        stem, dot, extension = name.rpartition(".")
        modified = dt.datetime.fromtimestamp(place.stat().st_mtime, dt.UTC)
        found = Instance("Win32_Directory" if place.is_dir() else "CIM_DataFile")
        found["Name"] = path.lower()
        found["FileName"] = stem if dot else name
        found["Extension"] = extension if dot else ""
        found["Drive"] = path[:2].lower()
        found["Path"] = folder[2:].lower() + "\\"
        found["LastModified"] = modified
        found["CreationDate"] = modified
        if not place.is_dir():
            found["FileSize"] = place.stat().st_size
        return found

    def remove(self, path: str) -> bool:
        """Delete a file, or a folder with all that is in it."""
        place = self.place(path)
        if place.is_dir():
            shutil.rmtree(place)
        elif place.exists():
            place.unlink()
        else:
            return False
        return True

    def listing(self, query: Select) -> list[Instance]:
        """What a query for files can mean here: the local files, those that the condition selects."""
        found: list[Instance] = []
        for drive in sorted(self._own.iterdir()):
            for place in sorted(drive.rglob("*")):
                path = f"{drive.name.lower()}:\\" + "\\".join(place.relative_to(drive).parts).lower()
                instance = self.data_file(path)
                if instance is not None and instance.class_name.lower() == query.class_name.lower():
                    found.append(instance)
        return found
