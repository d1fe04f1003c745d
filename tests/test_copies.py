"""Files that several drivers have a copy of are the same but for their package's name.

A driver imports nothing of ours but the contract (DRV-2), so each ships its own reader of images; a fix in one copy that does
not reach the others fails here.
"""

from pathlib import Path

import pytest

DRIVERS = Path(__file__).parents[1] / "drivers"
COPIES = {
    "images.py": ("hyperv", "libvirt", "vmware"),
    "uploads.py": ("hyperv", "libvirt"),
}


def text(driver: str, name: str) -> str:
    return (DRIVERS / driver / f"federation_{driver}" / name).read_text(encoding="utf-8").replace(driver, "DRIVER")


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_alike(name):
    first, *others = COPIES[name]
    for other in others:
        assert text(other, name) == text(first, name), f"{name} of {other} and {first} differ"
