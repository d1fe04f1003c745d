"""What an operator may set: the driver's section of the worker's configuration file.

Unknown fields are refused.  The password is never written here: it is read from a file or from the environment when a
session is opened.  The server's certificate is always verified, by an authority or by its thumbprint.
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
HostName = Annotated[str, Meta(pattern="^[0-9A-Za-z.:_-]{1,253}" + END)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/[^\x00-\x1f]*" + END, max_length=1024)]
InventoryName = Annotated[str, Meta(max_length=255)]
VariableName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,127}" + END)]


class ImageRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where images may come from.  What is not listed is refused."""

    schemes: frozenset[str] = frozenset({"https"})
    """Any of ``https``, ``http``, ``file``; ``file`` means the worker's own file system."""
    hosts: tuple[str, ...] = ()
    """Host names for http and https: exact, or ``*.example.org`` for everything below, or ``*`` for every host.
    Redirects are held to the same list."""
    directories: tuple[AbsolutePath, ...] = ()
    """Directories for ``file``, with everything below; symbolic links are resolved before the check."""
    max_bytes: Annotated[int, Meta(ge=1)] = 64 << 30
    """The largest file that is fetched."""
    timeout_seconds: Seconds = 30.0
    """How long the image's server may stay silent."""
    spool_directory: Annotated[str, Meta(pattern=r"^(/[^\x00-\x1f]*)?" + END, max_length=1024)] = ""
    """Where monolithic sparse VMDKs are kept while they are converted: room for the file and what is made of it; nothing
    stays.  Empty means the system's directory for temporary files."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the driver waits for vCenter."""

    request_seconds: Seconds = 30.0
    """For the answer to one request; then vCenter counts as unreachable."""
    task_seconds: Seconds = 3600.0
    """For a task to end, except migrations; then its outcome is unknown."""
    migrate_seconds: Seconds = 21600.0
    """For a migration to end."""
    busy_seconds: Seconds = 60.0
    """For a machine at which another task is at work to become free; then the operation is a conflict."""
    cancel_seconds: Seconds = 60.0
    """For a task that was asked to stop to end; then its outcome is unknown."""
    watch_seconds: Annotated[float, Meta(gt=0, le=600)] = 0.5
    """Between two questions of the inventory's watcher for what has changed (one request, whatever the number of machines);
    they also keep the session alive."""
    login_pause_seconds: Seconds = 120.0
    """Before an account and password that vCenter has refused are tried again: it locks accounts that try too often."""
    read_tries: Annotated[int, Meta(ge=1, le=20)] = 4
    """How often a question is asked when vCenter is not reached, up to 3 s apart."""
    settle_tries: Annotated[int, Meta(ge=1, le=100)] = 6
    """How often the driver comes back to a vCenter that was lost in the middle of a change, 1 to 5 s apart."""


class DiskController(enum.StrEnum):
    """What the disks of new machines hang on."""

    PVSCSI = "pvscsi"
    LSILOGIC = "lsilogic"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's section of the worker's configuration.  Names are those of vCenter's inventory."""

    host: HostName
    """vCenter's name or address."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 443
    username: Annotated[str, Meta(max_length=255)] = ""
    """The account; empty means that ``username_variable`` names it."""
    username_variable: VariableName = "FEDERATION_VMWARE_USERNAME"
    password_file: str = ""
    """File that holds the password and nothing else (a last line break is ignored); empty means the variable below."""
    password_variable: VariableName = "FEDERATION_VMWARE_PASSWORD"  # noqa: S105 - the name of a variable
    """Environment variable that holds the password."""
    ca_file: str = ""
    """Certificates of the authorities to trust, PEM; empty means those of the system."""
    thumbprint: Annotated[str, Meta(pattern="^([0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31})?" + END)] = ""
    """SHA-256 of the server's certificate; then this very certificate is taken and no other, whoever signed it."""
    datacenter: InventoryName = ""
    """Empty means the only one."""
    compute_cluster: InventoryName = ""
    """The vSphere cluster whose hosts are the nodes; empty means the only one of the datacenter."""
    resource_pool: InventoryName = ""
    """Resource pool for new machines; empty means the cluster's own."""
    folder: InventoryName = ""
    """Folder of machines for new ones, ``a/b`` for one in another; empty means the datacenter's own."""
    template_folder: InventoryName = ""
    """Folder for captured templates; empty means ``folder``."""
    datastore: InventoryName = ""
    """Datastore for new machines, volumes and templates."""
    datastore_cluster: InventoryName = ""
    """Or a datastore cluster: new machines go to its member with the most free space."""
    volume_folder: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}" + END)] = "federation-volumes"
    """Folder on each datastore in which volumes lie."""
    disk_controller: DiskController = DiskController.PVSCSI
    guest_id: Annotated[str, Meta(pattern="^[A-Za-z0-9_]{1,64}" + END)] = "otherGuest64"
    """vSphere's name of the guest's system for machines that are made without a template."""
    hot_add: bool = False
    """Let new machines take more processors and memory while they run (``resize --live``).  vSphere allows it for guests
    that it knows to support it, by ``guest_id``, and shows no vNUMA to a guest of a machine with it before vSphere 8."""
    webmks_console: bool = False
    """Declare the capability ``console_webmks``.  No simulator has it: try it on your vCenter before you rely on it."""
    images: ImageRules = ImageRules()
    reserved_memory_bytes: Annotated[int, Meta(ge=0)] = 0
    """Memory of each node that instances never get."""
    vcpu_overcommit: Annotated[float, Meta(ge=1, le=64)] = 4.0
    """Virtual processors for each real one that ``list_nodes`` offers."""
    timeouts: Timeouts = Timeouts()

    def credentials(self) -> tuple[str, str]:
        """Account and password, read anew; PermissionDenied names what is missing, never what was read."""
        user = self.username or os.environ.get(self.username_variable, "")
        if not user:
            raise PermissionDenied(f"no account: set username or the variable {self.username_variable}")
        if not self.password_file:
            password = os.environ.get(self.password_variable, "")
            if not password:
                raise PermissionDenied(f"no password: set password_file or the variable {self.password_variable}")
            return user, password
        try:
            return user, Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise PermissionDenied(
                f"password_file {self.password_file} cannot be read: {type(error).__name__}"
            ) from error
