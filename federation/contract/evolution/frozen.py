"""Release files: one for each contract release, in ``federation/contract/releases``.

1. The current release's file is made from the declarations again and again, until the release is frozen.
2. Freezing writes the file's digest into ``digests.json``.  From then on the file never changes, and neither does the
   contract of that release: what comes next is the next release.
3. A file whose digest is not there is a draft.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.contract.errors import NotFound
from federation.contract.evolution.pairs import Snapshot
from federation.contract.release import CURRENT, Release, snapshot

SHIPPED = Path(__file__).parents[1] / "releases"
"""Where the release files of this distribution are."""
_DIGESTS = "digests.json"


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """The release files of one folder."""

    folder: Path = SHIPPED

    def path(self, release: Release) -> Path:
        """The file of a release, whether it is there or not."""
        return self.folder / f"{release}.json"

    def digests(self) -> dict[Release, str]:
        """The frozen releases with the digests of their files, lowest first."""
        path = self.folder / _DIGESTS
        if not path.exists():
            return {}
        written: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return dict(sorted((Release.parse(name), digest) for name, digest in written.items()))

    def frozen(self) -> list[Release]:
        """The frozen releases, lowest first."""
        return list(self.digests())

    def read(self, release: Release) -> dict[str, Any]:
        """A release's contract; raises NotFound, naming what there is, when it has no file."""
        path = self.path(release)
        if not path.exists():
            known = ", ".join(str(each) for each in self.releases())
            message = f"there is no contract release {release} here; known are: {known}"
            raise NotFound(message, release=str(release))
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return read

    def releases(self) -> list[Release]:
        """All releases that have a file, frozen or not, lowest first."""
        return sorted(Release.parse(path.stem) for path in self.folder.glob("*.json") if path.name != _DIGESTS)

    def digest(self, release: Release) -> str:
        """The digest of a file as it is now; raises NotFound when there is none."""
        self.read(release)
        return "sha256:" + hashlib.sha256(self.path(release).read_bytes()).hexdigest()

    def between(self, low: Release, high: Release) -> list[Snapshot]:
        """The frozen releases from ``low`` to ``high``, both included, whose files are there."""
        return [self.read(each) for each in self.frozen() if low <= each <= high and self.path(each).exists()]

    def write_draft(self) -> None:
        """Write the current release's file from the declarations, unless it is frozen."""
        if CURRENT not in self.digests():
            self._write("draft")

    def freeze(self) -> None:
        """Freeze the current release as it is declared now.  The caller has checked it."""
        self._write("frozen")
        digests = {**self.digests(), CURRENT: self.digest(CURRENT)}
        written = json.dumps({str(release): digest for release, digest in sorted(digests.items())}, indent=1) + "\n"
        (self.folder / _DIGESTS).write_text(written, encoding="utf-8")

    def _write(self, status: str) -> None:
        self.folder.mkdir(exist_ok=True)
        self.path(CURRENT).write_text(release_text(status), encoding="utf-8")


def release_text(status: str = "draft") -> str:
    """What the current release's file holds; ``status`` is ``draft`` until it is frozen."""
    return json.dumps({"release": str(CURRENT), "status": status, **snapshot()}, indent=1, ensure_ascii=False) + "\n"
