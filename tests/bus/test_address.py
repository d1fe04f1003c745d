from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.bus.address import Endpoint, parse_address
from federation.bus.errors import AddressError

SECRET = "p%40ss:w%2Frd"


def test_a_url_names_several_hosts_one_user_and_a_virtual_host():
    address = parse_address(f"federation://worker:{SECRET}@first:5673,[::1]:5674,third/home%2Fone?heartbeat=3")
    assert address.endpoints == (Endpoint("first", 5673), Endpoint("::1", 5674), Endpoint("third", 5672))
    assert (address.user, address.password, address.virtual_host) == ("worker", "p@ss:w/rd", "home/one")
    assert address.options.heartbeat == 3.0


def test_oslos_form_with_the_same_login_at_every_host_is_read():
    address = parse_address("federation://u:p@one,u:p@two/")
    assert [endpoint.host for endpoint in address.endpoints] == ["one", "two"]
    assert (address.user, address.virtual_host) == ("u", "/")


def test_different_logins_for_different_hosts_are_refused():
    with pytest.raises(AddressError, match="share one user"):
        parse_address("federation://u:p@one,v:p@two/")


def test_tls_changes_the_default_port():
    assert parse_address("federation://host/?ssl=1").endpoints[0].port == 5671


def test_every_option_of_the_query_is_typed():
    options = parse_address(
        "federation://h/?ssl=yes&ssl_verify=0&ssl_ca_file=/ca&connect_timeout=1.5&max_unsettled=7"
    ).options
    assert (options.ssl, options.ssl_verify, options.ssl_ca_file) == (True, False, "/ca")
    assert (options.connect_timeout, options.max_unsettled) == (1.5, 7)


@pytest.mark.parametrize("query", ["heartbeet=1", "ssl=maybe", "heartbeat=-1", "heartbeat=nan", "max_unsettled=0"])
def test_an_option_that_cannot_be_meant_is_refused_by_name(query):
    with pytest.raises(AddressError, match=query.split("=")[0]):
        parse_address(f"federation://h/?{query}")


def test_options_that_the_caller_keeps_for_itself_are_handed_over():
    assert parse_address("federation://h/?partitions=8", extra={"partitions"}).extra == {"partitions": "8"}


@pytest.mark.parametrize("url", ["rabbit://h/", "federation:/h", "federation://h:port/", "federation://h:0/"])
def test_what_is_no_bus_url_is_refused(url):
    with pytest.raises(AddressError):
        parse_address(url)


@pytest.mark.parametrize("rest", ["h:x/", "h/?bad=1", "h,v:q@i/"])
def test_an_error_never_shows_the_password(rest):
    with pytest.raises(AddressError) as refusal:
        parse_address(f"federation://u:{SECRET}@{rest}")
    assert "ss" not in str(refusal.value).replace("password", "").replace("ssl", "")


def test_neither_text_nor_repr_of_an_address_shows_the_password():
    address = parse_address(f"federation://u:{SECRET}@h/v")
    assert "p@ss" not in f"{address} {address!r}"
    assert str(address) == "federation://u@h:5672/v"


def test_a_memory_url_names_a_broker_and_may_name_a_user():
    assert parse_address("federation+memory://demo").name == "demo"
    assert parse_address("federation+memory://").name == "default"
    named = parse_address("federation+memory://worker@demo")
    assert (named.user, named.name) == ("worker", "demo")


@given(user=st.text(min_size=1), password=st.text(), vhost=st.text(min_size=1))
def test_quoted_credentials_come_back_as_they_were(user, password, vhost):
    url = f"federation://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(vhost, safe='')}"
    address = parse_address(url)
    assert (address.user, address.password, address.virtual_host) == (user, password, vhost)
