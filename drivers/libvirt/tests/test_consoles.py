"""The screen and the serial line of a real guest, reached as a person would."""

from __future__ import annotations

import socket
import subprocess
import time

import libvirt
import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.consoles import Console, ConsoleKind
from federation.contract.errors import InvalidState, NotSupported

VNC_PASSWORD_ASKED = 2
"""RFC 6143, 7.2.2."""


def console(lab, instance: str, kind: ConsoleKind) -> Console:
    return lab.driver.get_console(lab.call(), r.GetConsole(instance=instance, kind=kind))


def received(wire: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = wire.recv(count - len(data))
        assert piece, f"the server hung up after {data!r}"
        data += piece
    return data


def encrypted(challenge: bytes, password: str) -> bytes:
    """RFC 6143, 7.2.2: DES with the password as key, each of its bytes with the bits in reverse order."""
    key = password.encode()[:8].ljust(8, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    command = [
        "openssl",
        "enc",
        "-des-ecb",
        "-K",
        mirrored.hex(),
        "-nopad",
        "-provider",
        "legacy",
        "-provider",
        "default",
    ]
    return subprocess.run(command, input=challenge, capture_output=True, check=True, timeout=30).stdout


def vnc_says(place: Console, password: str) -> tuple[int, str]:
    """The server's verdict on the password, 0 for right; and the name of the desktop."""
    with socket.create_connection((place.host, place.port), timeout=20) as wire:
        assert received(wire, 12).startswith(b"RFB 003.")
        wire.sendall(b"RFB 003.008\n")
        offered = received(wire, received(wire, 1)[0])
        assert list(offered) == [VNC_PASSWORD_ASKED], "it lets people in without the password"
        wire.sendall(bytes([VNC_PASSWORD_ASKED]))
        wire.sendall(encrypted(received(wire, 16), password))
        verdict = int.from_bytes(received(wire, 4))
        if verdict:
            return verdict, ""
        wire.sendall(b"\1")
        head = received(wire, 24)
        return verdict, received(wire, int.from_bytes(head[20:])).decode()


def typed(place: Console, text: bytes, until: bytes, seconds: float = 30) -> bytes:
    """What the serial line shows after the text was typed, up to what is waited for."""
    connection = libvirt.open(place.url)
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    connection.lookupByUUIDString(place.machine).openConsole(None, stream, 0)
    shown, end = b"", time.monotonic() + seconds
    try:
        assert stream.send(text) == len(text)
        while until not in shown:
            assert time.monotonic() < end, f"waited {seconds:g} s in vain for {until!r}, got {shown!r}"
            piece = stream.recv(4096)
            if isinstance(piece, bytes):
                shown += piece
            else:
                time.sleep(0.1)
    finally:
        stream.abort()
        connection.close()
    return shown


@pytest.mark.slow
def test_the_screen_opens_with_its_password_only_and_the_serial_line_carries_what_is_typed(lab):
    instance = lab.create()
    lab.wait_ready(instance.id)
    screen = console(lab, instance.id, ConsoleKind.VNC)
    assert screen.host == "127.0.0.1"
    assert vnc_says(screen, screen.password) == (0, f"QEMU ({instance.name})")
    verdict, _ = vnc_says(screen, "wrong")
    assert verdict != 0
    line = console(lab, instance.id, ConsoleKind.SERIAL)
    assert (line.machine, line.url) == (instance.id, lab.hosts.uris[instance.node])
    assert b"heard knock" in typed(line, b"knock knock\n", b"heard knock knock")
    assert "heard knock knock" in lab.console(instance.id)


def test_every_instance_has_a_password_of_its_own_that_no_error_and_no_fact_shows(lab):
    first, second = lab.create(), lab.create()
    passwords = [console(lab, one.id, ConsoleKind.VNC).password for one in (first, second)]
    assert passwords[0] != passwords[1]
    assert all(len(password) == 8 for password in passwords)
    shown = msgspec.json.encode([lab.get(first.id), lab.get(second.id)]).decode()
    assert not any(password in shown for password in passwords)


def test_a_console_that_is_not_there_is_refused_in_words_that_say_why(lab):
    instance = lab.create(start=False).id
    with pytest.raises(InvalidState, match=r"stopped.*running"):
        console(lab, instance, ConsoleKind.VNC)
    with pytest.raises(NotSupported, match="spice"):
        console(lab, instance, ConsoleKind.SPICE)
