"""What an operator may set: the driver's section of the worker's configuration file.

Unknown fields are refused.  The password is read from a file or from the environment, never from here.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.errors import PermissionDenied
from federation.contract.fields import END

Seconds = Annotated[float, Meta(gt=0, le=86400)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/[^\x00-\x1f]*" + END, max_length=1024)]
WindowsFolder = Annotated[
    str, Meta(pattern=r'^([A-Za-z]:|\\\\[^\\/:*?"<>|\x00-\x1f]+)(\\[^\\/:*?"<>|\x00-\x1f]+)+' + END, max_length=180)
]
"""``C:\\Federation`` or ``\\\\server\\share``, without a backslash in the end.  A path on Windows has 260 characters."""
NodeKey = Annotated[str, Meta(min_length=1, max_length=255)]
Address = Annotated[str, Meta(pattern="^[0-9A-Za-z.:_-]{1,253}" + END)]
Port = Annotated[int, Meta(ge=1, le=65535)]
VariableName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*" + END, max_length=255)]
FolderName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}" + END)]


class Authentication(enum.StrEnum):
    """How the worker proves who it is."""

    KERBEROS = "kerberos"
    NEGOTIATE = "negotiate"
    """Kerberos, or NTLM where there is no ticket."""
    NTLM = "ntlm"
    CERTIFICATE = "certificate"
    BASIC = "basic"
    """Only with TLS: the password travels as it is."""


class ImageRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where images may come from, or go to.  What is not listed is refused."""

    schemes: frozenset[str] = frozenset({"https"})
    """Any of ``https``, ``http``, ``file``; ``file`` means the worker's own file system."""
    hosts: tuple[str, ...] = ()
    """Host names for http and https: exact, or ``*.example.org`` for everything below, or ``*`` for every host.
    Redirects are held to the same list."""
    directories: tuple[AbsolutePath, ...] = ()
    """Directories for ``file``, with everything below; symbolic links are resolved before the check."""
    max_bytes: Annotated[int, Meta(ge=1)] = 64 << 30
    """The largest file that is fetched or sent."""
    timeout_seconds: Seconds = 30.0
    """How long the image's server may stay silent."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the driver waits for a host."""

    connect_seconds: Seconds = 10.0
    """To open a connection."""
    read_seconds: Seconds = 30.0
    """For an answer; then the host counts as unreachable."""
    change_seconds: Seconds = 300.0
    """For a job that changes something to end; then its outcome is unknown."""
    save_seconds: Seconds = 3600.0
    """For a machine's memory to be saved or restored."""
    copy_seconds: Seconds = 21600.0
    """For a disk to be copied, made or merged on its host."""
    migrate_seconds: Seconds = 21600.0
    """For a machine to move to another host."""
    settle_tries: Annotated[int, Meta(ge=1, le=100)] = 6
    """How often the driver comes back to a host that was lost in the middle of a change, 1 to 5 s apart."""


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Hyper-V host."""

    address: Address
    """Name (as its certificate has it) or address at which WinRM listens."""
    port: Port | None = None
    """Default: 5986 with TLS, 5985 without."""
    folder: WindowsFolder = "C:\\Federation"
    """Folder on the host in which disks, images and templates lie; it has to be there."""
    mount: AbsolutePath | None = None
    """Where the worker sees that same folder (an SMB share that is mounted).  Without it the host takes no images, no
    user data and captures to no URL, and ``list_nodes`` says so."""
    console_address: Address | None = None
    """Where people reach the host's RDP listener for consoles; default: ``address``."""
    console_port: Port = 2179
    migration_address: Address | None = None
    """What other hosts call this one when machines move to it; default: ``address``."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's section of the worker's configuration."""

    hosts: Annotated[dict[NodeKey, HostSettings], Meta(min_length=1, max_length=1024)]
    """Node name to host."""
    authentication: Authentication = Authentication.KERBEROS
    tls: bool = True
    """Speak HTTPS and check the certificate.  Without it messages are encrypted by Kerberos, Negotiate or NTLM; the
    other two are refused."""
    username: Annotated[str, Meta(max_length=255)] = ""
    """The account; empty means that ``username_variable`` names it, or for Kerberos the ticket of the worker's cache."""
    username_variable: VariableName = "FEDERATION_HYPERV_USERNAME"
    password_file: str = ""
    """File that holds the password and nothing else (a last line break is ignored); empty means the variable below."""
    password_variable: VariableName = "FEDERATION_HYPERV_PASSWORD"  # noqa: S105 (a name)
    """Environment variable that holds the password."""
    ca_file: str = ""
    """Certificates of the authorities to trust, PEM; empty means those of the system."""
    certificate_file: str = ""
    """The client's certificate, PEM, for ``certificate``."""
    certificate_key_file: str = ""
    """Its private key, PEM."""
    volume_folders: dict[FolderName, WindowsFolder] = {}
    """Pool name to a folder that is on every host, for volumes and templates."""
    images: ImageRules = ImageRules()
    uploads: ImageRules = ImageRules()
    """Where capture_image may send images."""
    reserved_memory_bytes: Annotated[int, Meta(ge=0)] = 2 << 30
    """Memory of each host that instances never get."""
    vcpu_overcommit: Annotated[float, Meta(ge=1, le=64)] = 4.0
    """Virtual processors for each real one that ``list_nodes`` offers."""
    timeouts: Timeouts = Timeouts()

    def __post_init__(self) -> None:
        """ValueError when the settings contradict each other."""
        bare = {Authentication.BASIC, Authentication.CERTIFICATE}
        if not self.tls and self.authentication in bare:
            raise ValueError(f"authentication {self.authentication} needs tls = true")
        if self.authentication is Authentication.CERTIFICATE and not (
            self.certificate_file and self.certificate_key_file
        ):
            raise ValueError("authentication certificate needs certificate_file and certificate_key_file")

    def credentials(self) -> tuple[str, str] | None:
        """Account and password, read anew; None where none are needed.

        PermissionDenied names what is missing, never what was read.
        """
        user = self.username or os.environ.get(self.username_variable, "")
        if self.authentication is Authentication.CERTIFICATE:
            return None
        if not user:
            if self.authentication is Authentication.KERBEROS:
                return None
            raise PermissionDenied(f"no account: set username or the variable {self.username_variable}")
        return user, self._password()

    def _password(self) -> str:
        if not self.password_file:
            password = os.environ.get(self.password_variable, "")
            if not password and self.authentication is not Authentication.KERBEROS:
                raise PermissionDenied(f"no password: set password_file or the variable {self.password_variable}")
            return password
        try:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            told = f"password_file {self.password_file} cannot be read: {type(error).__name__}"
            raise PermissionDenied(told) from error
