"""Is the working tree fit to be released?  Its contract against every frozen release that it still serves."""

from __future__ import annotations

from collections.abc import Iterator

from federation.contract.evolution.comparison import compare
from federation.contract.evolution.frozen import ReleaseFiles
from federation.contract.evolution.pairs import Snapshot
from federation.contract.evolution.rule_book import Direction, Finding, Weight
from federation.contract.release import CURRENT, LOWEST, Release, snapshot

FILE_RULES = {
    "frozen-file-missing": "A release whose digest is kept has no file any more.",
    "frozen-file-edited": "The file of a frozen release is not what was frozen.",
    "frozen-digest-missing": "A file says that its release is frozen, and no digest of it is kept.",
    "frozen-release-changed": "The working tree says that it is a frozen release and its contract is another one.",
}
"""What ``check`` finds beside the rules that compare two contracts."""


def check(files: ReleaseFiles | None = None, tree: Snapshot | None = None) -> dict[Release, list[Finding]]:
    """What the working tree changed since each frozen release of its major that it still serves, lowest first.

    What is wrong with a frozen file itself counts under its release.  Give ``tree`` to check another contract than the
    declared one.
    """
    files = files or ReleaseFiles()
    tree = tree or snapshot()
    current = Release.parse(tree["release"])
    lowest = max(LOWEST, Release(current.major, 0))
    digests = files.digests()
    served = sorted(each for each in {*digests, *_called_frozen(files)} if lowest <= each <= current)
    return {release: list(_findings(files, release, digests.get(release), tree)) for release in served}


def is_broken(found: dict[Release, list[Finding]]) -> bool:
    """Whether the tree must not be released."""
    return any(finding.weight is Weight.BREAK for findings in found.values() for finding in findings)


def _called_frozen(files: ReleaseFiles) -> Iterator[Release]:
    return (release for release in files.releases() if files.read(release).get("status") == "frozen")


def _findings(files: ReleaseFiles, release: Release, digest: str | None, tree: Snapshot) -> Iterator[Finding]:
    path = f"releases/{release}.json"
    if not files.path(release).exists():
        yield _of_file("frozen-file-missing", path, "it is gone", "Restore it from the release's tag.")
        return
    if digest is None:
        action = "Restore digests.json; only the command that freezes writes it."
        yield _of_file("frozen-digest-missing", path, "it says that it is frozen and has no digest", action)
    elif files.digest(release) != digest:
        message = f"its digest is not the {digest[:19]}… that was frozen"
        yield _of_file("frozen-file-edited", path, message, "Restore it from the release's tag.")
    found = compare(files.read(release), tree, files.between(release, Release.parse(tree["release"])))
    if str(release) != tree["release"]:
        yield from found
        return
    for finding in found:
        if finding.weight is Weight.ADDITION:
            message = f"{finding.message}, and release {release} is frozen"
            action = f"Make it release {Release(release.major, release.minor + 1)}: raise CURRENT in release.py."
            yield _of_file("frozen-release-changed", finding.path, message, action)
        else:
            yield finding


def _of_file(rule: str, path: str, message: str, action: str) -> Finding:
    return Finding(
        path=path, rule=rule, direction=Direction.BOTH, weight=Weight.BREAK, message=message, action=action
    )  # fmt: skip


def may_freeze(files: ReleaseFiles | None = None) -> list[str]:
    """Why the current release cannot be frozen; nothing when it can."""
    files = files or ReleaseFiles()
    reasons = []
    if CURRENT in files.digests():
        reasons.append(f"release {CURRENT} is frozen already; raise CURRENT in release.py to make the next one")
    reasons += [
        f"{finding.path}: {finding.message} ({finding.rule}, against release {release})"
        for release, findings in check(files).items()
        for finding in findings
        if finding.weight is Weight.BREAK
    ]
    return reasons
