"""Image files that are really written and read: those within the folders that the settings allow."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from federation.contract.errors import InvalidRequest
from federation.testing.hypervisor.settings import SimulatedSettings


def local_path(settings: SimulatedSettings, url: str) -> Path:
    """Where a ``file:`` URL points to; InvalidRequest, naming what is allowed, unless that is within the allowed folders."""
    path = allowed_path(settings, url)
    if path is None:
        allowed = ", ".join(f"file://{directory}/" for directory in settings.upload_directories) or "nothing"
        raise InvalidRequest(
            f"capture_image: {url} is not allowed; allowed is {allowed}", field="target.url", value=url
        )
    return path


def allowed_path(settings: SimulatedSettings, url: str) -> Path | None:
    """Where the URL points to, None when it is none of a file within the allowed folders."""
    parts = urlsplit(url)
    name = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or "\0" in name:
        return None
    path = Path(name).resolve()
    within = any(path.is_relative_to(Path(directory).resolve()) for directory in settings.upload_directories)
    return path if within else None
