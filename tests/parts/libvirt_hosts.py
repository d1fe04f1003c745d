"""Two libvirt hosts on one machine, each a libvirtd of its own with real QEMU (emulated, no KVM).

Each host has a mount namespace where libvirt's fixed folders are its own, and a UTS namespace with a host name of its
own; its socket lies in the instance's folder, so that anybody reaches it by `qemu+unix:///system?socket=…`. Folders
for volumes and console logs lie outside the fixed ones and have the same path inside and outside.
A libvirtd that this machine already runs is neither used nor touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import sysconfig
import uuid
import zlib
from pathlib import Path
from typing import Any

from parts.debian import install, require_root
from parts.processes import end, identify, is_alive, kill, launch_reaped, run, send
from parts.state import PartMissingError, instance_folder, locked, read_facts, remove_folder, wait_until, write_facts

HOSTS = 2
PACKAGES = ("libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils")
# What pip needs to compile libvirt's Python binding.
BUILD_PACKAGES = ("libvirt-dev", "pkg-config", "gcc", "libc6-dev")
# libvirt's compiled-in folders, and what the host's own folder calls them.
FIXED = {
    "/run/libvirt": "run",
    "/etc/libvirt": "etc",
    "/var/lib/libvirt": "lib",
    "/var/log/libvirt": "log",
    "/var/cache/libvirt": "cache",
}
ENTER_HOST = (
    'base="$1"; name="$2"; shift 2; hostname "$name"; '
    + "; ".join(f'mount --bind "$base/{own}" {fixed}' for fixed, own in FIXED.items())
    + '; exec "$@"'
)
# sockaddr_un's 108 bytes less the final zero (unix(7)).
LONGEST_SOCKET_PATH = 107
DISPLAY_PORTS_PER_HOST = 50
# Of QEMU's own range (5900 to 65535), below the ports that Linux gives to clients (32768 on).
LOWEST_DISPLAY_PORT = 5900
INSTANCES = 260
QEMU_CONF = """\
# Private to one test host: files under pytest's folders belong to root, and there is no second user to protect.
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
vnc_listen = "127.0.0.1"
spice_listen = "127.0.0.1"
remote_display_port_min = {low}
remote_display_port_max = {high}
"""
LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""


def _display_ports(folder: Path) -> int:
    """The first display port of an instance: two libvirtd that share a range give one port to two machines."""
    return LOWEST_DISPLAY_PORT + zlib.crc32(str(folder).encode()) % INSTANCES * HOSTS * DISPLAY_PORTS_PER_HOST


class LibvirtHosts:
    """Several libvirt hosts that outlive this process, numbered from 0."""

    def __init__(self, instance: str | None = None) -> None:
        """Take the hosts of the current instance, or of the one named, running or not."""
        self.size = HOSTS
        self.folder = instance_folder("libvirt", instance)

    @property
    def facts(self) -> dict[str, Any]:
        """Names, folders and processes, as written down by the last command."""
        return read_facts(self.folder)

    @property
    def uris(self) -> dict[str, str]:
        """libvirt's connection URI of each host, by host name."""
        return {host["name"]: host["uri"] for host in self.facts["hosts"]}

    def status(self) -> dict[str, Any]:
        """How to reach each host, and which of them run."""
        if not self.facts:
            return {"part": "libvirt", "running": False}
        hosts = [{**host, "alive": is_alive(host["libvirtd"])} for host in self.facts["hosts"]]
        return {"part": "libvirt", "running": all(host["alive"] for host in hosts), "hosts": hosts}

    def env(self) -> dict[str, str]:
        """Shell variables that name the hosts."""
        return {"FEDERATION_TEST_LIBVIRT": " ".join(self.uris.values())}

    def install(self) -> None:
        """Install what the hosts and libvirt's Python binding need."""
        header = Path(sysconfig.get_paths()["include"]) / "Python.h"
        install(*PACKAGES, *BUILD_PACKAGES, *([] if header.exists() else ["python3-dev"]))

    def start(self) -> None:
        """Start what does not run yet and wait until every host answers."""
        with locked(self.folder / "lock"):
            self._prepare()
            for number in range(HOSTS):
                self._launch(number)

    def start_node(self, number: int) -> None:
        """Start one host's libvirtd; machines that ran on through its absence are found again."""
        with locked(self.folder / "lock"):
            self._launch(number)

    def stop(self) -> None:
        """End every daemon and every virtual machine of these hosts."""
        for number, host in enumerate(self.facts.get("hosts", [])):
            self.stop_node(number)
            self._end_machines(host)
            end(host["virtlogd"])

    def remove(self) -> None:
        """Stop and forget the hosts with all their volumes."""
        self.stop()
        remove_folder(self.folder)

    def stop_node(self, number: int) -> None:
        """End one host's libvirtd; its virtual machines run on."""
        end(self._host(number)["libvirtd"])

    def restart(self, number: int = 0) -> None:
        """End one host's libvirtd gracefully and start it again."""
        self.stop_node(number)
        self.start_node(number)

    def kill(self, number: int = 0) -> None:
        """End one host's libvirtd by SIGKILL; its virtual machines run on."""
        kill(self._host(number)["libvirtd"])

    def pause(self, number: int = 0) -> None:
        """Freeze one host's libvirtd: calls to it hang."""
        send(self._host(number)["libvirtd"], signal.SIGSTOP)

    def resume(self, number: int = 0) -> None:
        """Let a frozen libvirtd go on."""
        send(self._host(number)["libvirtd"], signal.SIGCONT)

    def mend(self) -> None:
        """Bring back whatever was killed, stopped or frozen."""
        for number in range(self.size):
            self.resume(number)
        self.start()

    def _host(self, number: int) -> dict[str, Any]:
        hosts: list[dict[str, Any]] = self.facts.get("hosts", [])
        if number >= len(hosts):
            raise PartMissingError(f"libvirt host {number} was never started")
        return hosts[number]

    def _prepare(self) -> None:
        if self.facts:
            return
        require_root("running libvirtd with namespaces of its own")
        self.install()
        write_facts(self.folder, {"hosts": [self._make_host(number) for number in range(HOSTS)]})

    def _make_host(self, number: int) -> dict[str, Any]:
        base = self.folder / f"host{number}"
        socket = base / "run/libvirt-sock"
        if len(str(socket)) > LONGEST_SOCKET_PATH:
            raise PartMissingError(f"{socket} is too long for a socket: set FEDERATION_PARTS_DIR to a shorter path")
        for own in (*FIXED.values(), "volumes", "console"):
            (base / own).mkdir(parents=True, exist_ok=True)
        low = _display_ports(self.folder) + DISPLAY_PORTS_PER_HOST * number
        ports = {"low": low, "high": low + DISPLAY_PORTS_PER_HOST - 1}
        (base / "etc/qemu.conf").write_text(QEMU_CONF.format(**ports))
        (base / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
        (base / "etc/virtlogd.conf").write_text("")
        return {
            "name": f"host{number}",
            "uri": f"qemu+unix:///system?socket={socket}",
            "volumes": str(base / "volumes"),
            "console": str(base / "console"),
            "log": str(base / "log/libvirtd.log"),
            "folder": str(base),
            "libvirtd": None,
            "virtlogd": None,
        }

    def _launch(self, number: int) -> None:
        facts = self.facts
        host = facts["hosts"][number]
        base = Path(host["folder"])
        for fixed in FIXED:
            Path(fixed).mkdir(parents=True, exist_ok=True)
        self._launch_one(host, "virtlogd")
        self._launch_one(host, "libvirtd")
        write_facts(self.folder, facts)
        wait_until(lambda: _answers(host), 60, f"libvirtd of {host['name']}, see {base / 'libvirtd.out'}", step=0.3)

    @staticmethod
    def _launch_one(host: dict[str, Any], daemon: str) -> None:
        if is_alive(host[daemon]):
            return
        program = shutil.which(daemon, path=f"/usr/sbin:/sbin:{os.defpath}")
        if program is None:
            raise PartMissingError(f"{daemon} is not installed")
        base = Path(host["folder"])
        pid_file = f"/run/libvirt/{daemon}.pid"
        enter = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-ec", ENTER_HOST, "sh"]
        configuration = f"/etc/libvirt/{daemon}.conf"
        command = [*enter, str(base), host["name"], program, "--config", configuration, "--pid-file", pid_file]
        host[daemon] = launch_reaped(command, base / f"{daemon}.out")

    @staticmethod
    def _end_machines(host: dict[str, Any]) -> None:
        """QEMU writes its pid into libvirt's run folder; only processes found there and named qemu are ended."""
        for path in Path(host["folder"]).glob("run/qemu/*.pid"):
            machine = identify(int(path.read_text()))
            name = Path(f"/proc/{machine['pid']}/comm")
            if name.exists() and name.read_text().startswith("qemu"):
                kill(machine)


def _answers(host: dict[str, Any]) -> bool:
    if not is_alive(host["libvirtd"]):
        raise PartMissingError(f"libvirtd of {host['name']} ended while starting, see {host['folder']}/libvirtd.out")
    try:
        run(["virsh", "-c", host["uri"], "hostname"], seconds=20)
    except PartMissingError:
        return False  # it does not listen yet
    return True
