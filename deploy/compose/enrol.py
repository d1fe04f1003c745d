"""enrol.py CLUSTER DRIVER COUNT: makes a cluster, once, and a broker user for each of the COUNT workers that it may have.

What is there stays.  One process runs all the commands, because starting one takes longer than what it does.
"""

from __future__ import annotations

import sys
from pathlib import Path

USERS = Path("/run/federation/workers")


def enrol(cluster: str, driver: str, missing: list[str]) -> None:
    """End the program with the command's own words where one fails."""
    from click import ClickException  # noqa: PLC0415 (nothing is loaded where nothing is missing)

    from federation.cli.main import root  # noqa: PLC0415
    from federation.contract.errors import AlreadyExists  # noqa: PLC0415

    try:
        root(["cluster", "create", cluster, "--driver", driver], standalone_mode=False)
    except ClickException as error:
        if getattr(getattr(error, "error", None), "code", None) != AlreadyExists.code:
            error.show()
            sys.exit(error.exit_code)
    for worker in missing:
        try:
            root(
                ["broker", "grant", cluster, worker, "--url-file", str(USERS / f"{worker}.url")], standalone_mode=False
            )
        except ClickException as error:
            error.show()
            sys.exit(error.exit_code)


def main(cluster: str, driver: str, count: int) -> None:
    """Make what is missing."""
    workers = [f"{cluster}-{number}" for number in range(1, count + 1)]
    missing = [worker for worker in workers if not (USERS / f"{worker}.url").exists()]
    if missing:
        enrol(cluster, driver, missing)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
