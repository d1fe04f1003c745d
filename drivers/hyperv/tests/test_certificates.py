"""Logging in by a client's certificate: whom a host lets in, and how it may ask for the certificate."""

import ssl
from pathlib import Path

import msgspec
import pytest
from parts.certificates import make_certificates
from parts.processes import run

from federation_hyperv.driver import HypervDriver
from federation_hyperv.settings import Settings as DriverSettings
from federation_hyperv.testing.certificates import user_principal_name
from federation_hyperv.testing.cluster import Settings, running
from federation_hyperv.wsman import AccessDenied, Host, HostUnreachable, Login, LostAnswer

USER = "federation@localhost"
UPN = "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:"
PASSWORD = "a-password-that-nobody-sends"


def sign(folder, authority, name, *extensions):
    """A client's certificate of an authority with these extensions: the paths of certificate and key."""
    key, request, certificate = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    more = folder / f"{name}.extensions"
    more.write_text("\n".join(extensions) + "\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(["openssl", "req", *new, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)])
    signed_by = ["-CA", authority["ca_pem"], "-CAkey", authority["ca_key"], "-CAcreateserial", "-days", "30"]
    run(["openssl", "x509", "-req", *signed_by, "-in", str(request), "-out", str(certificate), "-extfile", str(more)])
    return {"certificate_file": str(certificate), "certificate_key_file": str(key)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def clients(tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("clients")
    for_clients = "extendedKeyUsage=clientAuth"
    return {
        "mapped": sign(folder, authority, "mapped", f"subjectAltName={UPN}{USER}", for_clients),
        "another user": sign(folder, authority, "another", f"subjectAltName={UPN}somebody@localhost", for_clients),
        "no user": sign(folder, authority, "nobody", "subjectAltName=DNS:federation", for_clients),
        "for servers": sign(folder, authority, "server", f"subjectAltName={UPN}{USER}", "extendedKeyUsage=serverAuth"),
        "of another authority": sign(
            folder, make_certificates(folder / "other"), "stranger", f"subjectAltName={UPN}{USER}", for_clients
        ),
    }


@pytest.fixture(params=["asked later", "asked in the handshake"])
def secure(tmp_path, authority, request):
    settings = Settings(
        certificate_file=authority["server_pem"], certificate_key_file=authority["server_key"], password=PASSWORD,
        client_ca_file=authority["ca_pem"], client_subject=USER, client_certificate_later=request.param == "asked later",
    )  # fmt: skip
    with running(tmp_path / "hosts", settings) as started:
        yield started


def login(cluster, authority, client):
    return Login(
        address="localhost", port=cluster.port("HV1"), authentication="certificate", ca_file=authority["ca_pem"],
        operation_seconds=10, **client,
    )  # fmt: skip


def test_a_certificate_logs_in_as_the_account_that_it_is_mapped_to(secure, authority, clients):
    host = Host(login(secure, authority, clients["mapped"]))
    assert [one["Name"] for one in host.query("SELECT Name FROM Msvm_ComputerSystem")] == ["HV1"]
    assert host.identify().vendor == "Microsoft Corporation"


@pytest.mark.parametrize("client", ["another user", "no user"])
def test_a_certificate_that_is_mapped_to_nobody_is_access_denied(secure, authority, clients, client):
    with pytest.raises(AccessDenied):
        Host(login(secure, authority, clients[client]), attempts=1).identify()


@pytest.mark.parametrize("client", ["for servers", "of another authority"])
def test_a_certificate_that_the_host_does_not_trust_ends_the_connection(secure, authority, clients, client):
    with pytest.raises((HostUnreachable, LostAnswer, AccessDenied)):
        Host(login(secure, authority, clients[client]), attempts=1).identify()
    assert secure.requests("HV1") == 0


def test_without_a_mapping_no_certificate_logs_in(tmp_path, authority, clients):
    settings = Settings(certificate_file=authority["server_pem"], certificate_key_file=authority["server_key"])
    with running(tmp_path / "hosts", settings) as started, pytest.raises(AccessDenied):
        Host(login(started, authority, clients["mapped"]), attempts=1).identify()


def test_the_driver_works_with_a_certificate_and_no_password(secure, authority, clients, monkeypatch):
    monkeypatch.delenv("FEDERATION_HYPERV_USERNAME", raising=False)
    monkeypatch.delenv("FEDERATION_HYPERV_PASSWORD", raising=False)
    settings = {
        "hosts": {"HV1": {"address": "localhost", "port": secure.port("HV1")}}, "authentication": "certificate",
        "ca_file": authority["ca_pem"], **clients["mapped"],
    }  # fmt: skip
    driver = HypervDriver.open(msgspec.convert(settings, DriverSettings), "lab")
    report = driver.probe(None, None)
    driver.close()
    assert (report.reachable, report.message) == (True, "")


def test_the_user_of_a_certificate_is_its_principal_name(clients):
    def named(client):
        return user_principal_name(ssl.PEM_cert_to_DER_cert(Path(clients[client]["certificate_file"]).read_text()))

    assert [named("mapped"), named("another user"), named("no user")] == [USER, "somebody@localhost", ""]
