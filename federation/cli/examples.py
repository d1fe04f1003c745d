"""Examples for the help of commands: lines that a person can type (a test parses each of them)."""

from __future__ import annotations

SAMPLES = {
    "format": "qcow2",
    "mac": "52:54:00:12:34:56",
    "name": "before-upgrade",
    "network": "default",
    "node": "node-2",
    "pool": "fast",
    "size_bytes": "20GiB",
    "snapshot": "0197c1e0-5a3b-7c11-8a54-2f6d1e0c9b01",
    "template": "golden",
    "url": "https://images.example.org/web-1.qcow2",
    "volume": "data-1",
}
"""Values for fields of requests that have to be given."""


def examples(*lines: str) -> str:
    """An epilog that shows these lines as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
