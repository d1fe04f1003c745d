"""provision.py MANAGER…: makes, once, a broker user for each manager, and one with which managers read the broker's figures.

What is there stays.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path("/run/federation/manager")
MONITORING = FOLDER / "monitoring.url"
NOTHING = "^$"


def provide_managers(managers: list[str]) -> None:
    """End the program with the command's own words where one fails."""
    from click import ClickException  # noqa: PLC0415 (nothing is loaded where nothing is missing)

    from federation.cli.main import root  # noqa: PLC0415

    for manager in managers:
        file = str(FOLDER / f"{manager}.url")
        try:
            root(["broker", "provision", "--manager", manager, "--url-file", file], standalone_mode=False)
        except ClickException as error:
            error.show()
            sys.exit(error.exit_code)


def provide_monitoring(management_url: str) -> None:
    """A user who sees all figures of the broker and can change, send and read nothing."""
    from federation.bus.errors import BusError  # noqa: PLC0415
    from federation.bus.management import read_management_url  # noqa: PLC0415
    from federation.bus.provisioning import new_password, password_hash  # noqa: PLC0415

    api, password = read_management_url(management_url, None), new_password()
    hashed = {"password_hash": password_hash(password), "hashing_algorithm": "rabbit_password_hashing_sha256"}
    try:
        api.request("PUT", "users/monitoring", {**hashed, "tags": "monitoring"})
        api.request("PUT", "permissions/federation/monitoring", dict.fromkeys(("configure", "write", "read"), NOTHING))
    except BusError as error:
        sys.exit(f"the user `monitoring` could not be made: {error}")
    place = urlsplit(management_url)
    partial = MONITORING.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(f"{place.scheme}://monitoring:{password}@{place.hostname}:{place.port}\n", encoding="ascii")
    partial.replace(MONITORING)


def main(managers: list[str]) -> None:
    """Make what is missing."""
    missing = [manager for manager in managers if not (FOLDER / f"{manager}.url").exists()]
    if missing:
        provide_managers(missing)
    if not MONITORING.exists():
        provide_monitoring(Path(os.environ["FEDERATION_MANAGEMENT_URL_FILE"]).read_text(encoding="ascii").strip())


if __name__ == "__main__":
    main(sys.argv[1:])
