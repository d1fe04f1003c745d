"""``federation conformance``: try a driver from the command line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

CASES = Path(__file__).with_name("cases")
_CONFORMS, _FAILS, _CANNOT_RUN = 0, 1, 2


class CannotRun(click.ClickException):
    """The target, the hypervisor or a tool is missing: nothing is known of the driver."""

    exit_code = _CANNOT_RUN


@click.group()
def conformance() -> None:
    """Say whether a driver conforms to the contract."""


@conformance.command()
@click.option("--driver", required=True, help="The driver: its entry point, such as libvirt, or module:Class.")
@click.option(
    "--config", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML: the worker's [driver] table, and [conformance] with what the kit may use.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(file_okay=False, path_type=Path), help="Folder for scorecard, JUnit, JSON, badge."
)
@click.option("-k", "select", default="", metavar="EXPRESSION", help="Only cases whose names match.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=None, help="Processes side by side; default 2 with pytest-xdist."
)
@click.option("-x", "stop", is_flag=True, help="Stop at the first case that fails.")
@click.pass_context
def run(  # noqa: PLR0913 (one parameter for each option)
    ctx: click.Context,
    driver: str,
    config: Path,
    report: Path | None,
    select: str,
    jobs: int | None,
    stop: bool,  # noqa: FBT001 (click's flag)
) -> None:
    """Try a driver with every case of the kit.

    Exit status: 0 it conforms, 1 a case failed, 2 the kit could not run (target, hypervisor or tool).
    """
    _check_target(driver, config)
    has_xdist = importlib.util.find_spec("xdist") is not None
    if jobs is not None and jobs > 1 and not has_xdist:
        message = "--jobs needs pytest-xdist, which is not installed"
        raise click.UsageError(message)
    processes = jobs or (2 if has_xdist else 1)
    command = [
        sys.executable, "-m", "pytest", str(CASES), "-c", os.devnull, f"--rootdir={CASES}", f"--confcutdir={CASES}", "-q", "-p", "no:cacheprovider",
        "--import-mode=importlib", f"--conformance-driver={driver}", f"--conformance-config={config.resolve()}",
        *([f"--conformance-report={report.resolve()}"] if report else []),
        *(["-k", select] if select else []),
        *(["-x"] if stop else []),
        *([f"-n{processes}", "--dist=loadgroup"] if processes > 1 else []),
    ]  # fmt: skip
    status = subprocess.run(command, check=False).returncode  # noqa: S603 (our own interpreter and arguments)
    ctx.exit(status if status in {_CONFORMS, _FAILS} else _CANNOT_RUN)


def _check_target(driver: str, config: Path) -> None:
    """Open the target once, so that what is wrong with it is said in one line."""
    from federation.conformance.bench import Bench  # noqa: PLC0415 (only a run pays for it)
    from federation.conformance.process import Blocked  # noqa: PLC0415
    from federation.conformance.target import TargetInvalid, load_target  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        try:
            Bench(load_target(driver, config, Path(scratch))).close()
        except (TargetInvalid, Blocked, AssertionError) as error:
            message = f"the kit cannot run: {error}"
            raise CannotRun(message) from error
