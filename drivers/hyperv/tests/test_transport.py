"""The transport: who may ask, what is sealed, what is lost, and what never shows in a log."""

import logging
import re
import socket
import threading

import pytest
from parts.certificates import make_certificates

from federation_hyperv.cim import Instance
from federation_hyperv.testing import Fault, FaultKind
from federation_hyperv.testing.cluster import Settings, running
from federation_hyperv.wsman import AccessDenied, Host, HostUnreachable, Login, LostAnswer
from federation_hyperv.wsman.transport import _no_ticket

DEFINE = Instance("Msvm_VirtualSystemSettingData", {"ElementName": "m"})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(tmp_path, certificates):
    settings = Settings(certificate_file=certificates["server_pem"], certificate_key_file=certificates["server_key"])
    with running(tmp_path / "hosts", settings) as started:
        yield started


@pytest.mark.parametrize("authentication", ["basic", "ntlm", "negotiate"])
def test_a_host_is_reached_over_tls_with_its_certificate_verified(login_to, secure, certificates, authentication):
    login = login_to(secure, tls=True, authentication=authentication, ca_file=certificates["ca_pem"])
    assert Host(login).identify().vendor == "Microsoft Corporation"


def test_a_certificate_that_nobody_vouches_for_is_refused(login_to, secure):
    with pytest.raises(HostUnreachable):
        Host(login_to(secure, tls=True), attempts=1).identify()


@pytest.mark.parametrize("authentication", ["ntlm", "negotiate"])
def test_without_tls_every_message_is_sealed(login_to, cluster, authentication, monkeypatch):
    seen = []
    real = socket.socket.sendall
    monkeypatch.setattr(
        socket.socket, "sendall", lambda self, data, *rest: (seen.append(bytes(data)), real(self, data, *rest))[1]
    )
    Host(login_to(cluster, authentication=authentication)).query("SELECT * FROM Msvm_ComputerSystem")
    sent = b"".join(seen)
    assert b"HTTP-SPNEGO-session-encrypted" in sent
    assert b"Msvm_ComputerSystem" not in sent
    assert cluster.settings.password.encode() not in sent


def test_basic_without_tls_is_refused_before_anything_is_sent():
    with pytest.raises(ValueError, match="clear text"):
        Login(address="127.0.0.1", tls=False, authentication="basic")


@pytest.mark.parametrize("authentication", ["ntlm", "negotiate"])
def test_a_wrong_password_is_access_denied(login_to, cluster, authentication):
    with pytest.raises(AccessDenied):
        Host(login_to(cluster, password="wrong", authentication=authentication)).identify()


@pytest.mark.parametrize("authentication", ["kerberos", "negotiate"])
def test_logging_in_without_ticket_and_account_is_access_denied_and_says_why(
    login_to, cluster, authentication, monkeypatch
):
    monkeypatch.setenv("KRB5CCNAME", "FILE:/nowhere/ticket")
    login = login_to(cluster, authentication=authentication, username="", password="")
    with pytest.raises(AccessDenied, match="logging in failed"):
        Host(login, attempts=1).identify()
    assert cluster.requests("HV1") == 0


def test_a_realm_whose_servers_are_away_is_no_refusal():
    told = _no_ticket(RuntimeError("Cannot contact any KDC for realm 'EXAMPLE.ORG' -1765328228"), "Get at hv1")
    assert isinstance(told, HostUnreachable)
    assert "EXAMPLE.ORG" in str(told)


def test_a_privilege_that_is_missing_is_access_denied(cluster, host):
    cluster.order(Fault(kind=FaultKind.DENY, action="Enumerate"))
    with pytest.raises(AccessDenied, match="Access is denied"):
        host.query("SELECT * FROM Msvm_ComputerSystem")


def test_a_host_that_does_not_listen_is_unreachable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    login = Login(address="127.0.0.1", port=port, tls=False, authentication="ntlm", username="u", password="p")
    with pytest.raises(HostUnreachable):
        Host(login, attempts=2).identify()


def test_a_query_whose_answer_was_lost_is_asked_again(cluster, host):
    cluster.order(Fault(kind=FaultKind.DROP_AFTER, action="Enumerate"))
    assert [item["Name"] for item in host.query("SELECT * FROM Msvm_ComputerSystem")] == ["HV1"]


@pytest.mark.parametrize(("kind", "effects"), [(FaultKind.DROP_BEFORE, 0), (FaultKind.DROP_AFTER, 1)])
def test_a_call_whose_answer_was_lost_is_never_sent_again(cluster, operator, kind, effects):
    management = operator.service("VirtualSystemManagementService")
    cluster.order(Fault(kind=kind, action="DefineSystem"))
    with pytest.raises(LostAnswer):
        operator.host.invoke(management, "DefineSystem", SystemSettings=DEFINE)
    assert [effect.kind for effect in cluster.effects()] == ["define"] * effects
    assert operator.host.identify().vendor == "Microsoft Corporation"


def test_an_answer_that_takes_too_long_is_lost(cluster, connect):
    host = connect(operation_seconds=-4)
    host.identify()
    cluster.order(Fault(kind=FaultKind.DELAY, action="Enumerate", seconds=2))
    cluster.order(Fault(kind=FaultKind.DELAY, action="Enumerate", seconds=2, times=5))
    with pytest.raises(LostAnswer):
        host.query("SELECT * FROM Msvm_ComputerSystem")


def test_a_lost_host_answers_again_when_it_is_back(cluster, host):
    host.identify()
    cluster.lose("HV1")
    with pytest.raises(LostAnswer):
        host.identify()
    cluster.bring_back("HV1")
    assert host.identify().vendor == "Microsoft Corporation"


def test_several_threads_share_a_host(cluster, operator):
    management = operator.service("VirtualSystemManagementService")
    errors = []

    def define(number):
        try:
            for _ in range(5):
                operator.host.invoke(management, "DefineSystem", SystemSettings=DEFINE.copy(ElementName=f"m{number}"))
        except Exception as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=define, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(cluster.effects()) == 30


def test_no_credential_is_in_any_log_at_debug_level(login_to, cluster, caplog, connect, secure, certificates):
    caplog.set_level(logging.DEBUG)
    login = login_to(secure, tls=True, authentication="basic", ca_file=certificates["ca_pem"])
    for host, password in ((connect(), cluster.settings.password), (Host(login), secure.settings.password)):
        host.query("SELECT * FROM Msvm_ComputerSystem")
        assert password not in repr(host.login)
        assert password not in repr((cluster.settings, secure.settings))
    with pytest.raises(AccessDenied):
        connect(password="not-the-password").identify()
    assert len(caplog.records) > 10
    for password in (cluster.settings.password, secure.settings.password, "not-the-password"):
        assert password not in caplog.text
    assert "TlRMTVNTUAAD" not in caplog.text  # the third message of NTLM, which holds what the password was proved with
    assert not re.search(r"Authorization|Basic [A-Za-z0-9+/=]{8}", caplog.text)
