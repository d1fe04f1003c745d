"""A throw-away certificate authority for loopback, and what it signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parts.processes import run

if TYPE_CHECKING:
    from pathlib import Path

DAYS = "365"


def make_certificates(folder: Path) -> dict[str, str]:
    """Make, once, an authority and a server's and a client's certificate; returns the paths by role."""
    names = ("ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key")
    paths = {name.replace(".", "_"): str(folder / name) for name in names}
    if not all((folder / name).exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        authority = ["-keyout", paths["ca_key"], "-out", paths["ca_pem"], "-days", DAYS]
        run(["openssl", "req", "-x509", *new_key, "-subj", "/CN=driver-federation test authority", *authority])
        _sign(folder, "server", new_key)
        _sign(folder, "client", new_key)
    return paths


def _sign(folder: Path, role: str, new_key: list[str]) -> None:
    key, request, certificate = folder / f"{role}.key", folder / f"{role}.csr", folder / f"{role}.pem"
    extensions = folder / f"{role}.extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\n")
    run(["openssl", "req", *new_key, "-subj", f"/CN={role}", "-keyout", str(key), "-out", str(request)])
    authority = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"]
    files = ["-in", str(request), "-out", str(certificate), "-extfile", str(extensions)]
    run(["openssl", "x509", "-req", "-days", DAYS, *authority, *files])
