"""How the transport is configured."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import oslo_messaging
import pytest
from oslo_config import cfg

from federation.bus.address import LinkOptions
from federation.bus.oslo.options import GROUP, OPTIONS, DriverOptions, list_opts, read_options


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    conf([], project="federation-tests")
    return conf


def read(conf, url):
    return read_options(conf, oslo_messaging.TransportURL.parse(conf, url))


def test_without_options_the_defaults_hold(conf):
    address, options = read(conf, "federation://user:secret@host:5673/vhost")
    assert options == DriverOptions()
    assert address.options == LinkOptions()
    assert str(address) == "federation://user@host:5673/vhost"


def test_the_url_wins_over_the_configuration_and_that_over_the_default(conf):
    conf.register_opts(OPTIONS, group=GROUP)
    conf.set_override("prefetch", 7, GROUP)
    conf.set_override("heartbeat", 3.0, GROUP)
    conf.set_override("ssl", override=True, group=GROUP)
    address, options = read(conf, "federation://host/?heartbeat=4&partitions=8")
    assert (options.prefetch, options.partitions) == (7, 8)
    assert (address.options.heartbeat, address.options.ssl) == (4.0, True)


def test_tls_in_the_configuration_is_tls_on_its_own_port(conf):
    conf.register_opts(OPTIONS, group=GROUP)
    conf.set_override("ssl", override=True, group=GROUP)
    address, _ = read(conf, "federation://host/")
    assert address.endpoints[0].port == 5671


def test_several_hosts_credentials_and_escapes_survive(conf):
    address, _ = read(conf, "federation://us%40er:p%2Fw:x@one:1,us%40er:p%2Fw:x@[::1]:2/a%2Fb")
    assert [str(endpoint) for endpoint in address.endpoints] == ["one:1", "[::1]:2"]
    assert (address.user, address.password, address.virtual_host) == ("us@er", "p/w:x", "a/b")


@pytest.mark.parametrize(
    "query",
    ["partitions=-1", "partitions=x", "prefetch=0", "queue_type=stream", "unknown=1", "ssl=perhaps", "heartbeat=-1"],
)
def test_an_unknown_option_or_a_value_out_of_range_is_refused_without_showing_the_password(conf, query):
    with pytest.raises(oslo_messaging.InvalidTransportURL) as caught:
        oslo_messaging.get_rpc_transport(conf, f"federation://user:secret@host/?{query}")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.url)
    assert query.partition("=")[0] in str(caught.value)


def test_every_option_has_its_help_and_can_be_generated_into_a_configuration_file():
    assert list_opts() == [(GROUP, OPTIONS)]
    names = {option.name for option in OPTIONS}
    assert names == {option.name for kind in (DriverOptions, LinkOptions) for option in fields(kind)}
    assert all(option.help and "LinkOptions" not in option.help for option in OPTIONS)


def test_opening_a_transport_does_not_connect(conf):
    oslo_messaging.get_rpc_transport(conf, "federation://user:secret@nowhere.invalid:1/").cleanup()


def test_the_reference_page_lists_every_option_with_its_default():
    page = (Path(__file__).parents[3] / "docs/reference/transport.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    told = {name: default.strip() for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    for option in OPTIONS:
        default = option.default
        text = str(int(default)) if isinstance(default, bool | float) else str(default or ("" if default != 0 else "0"))
        assert told.get(option.name) == text, option.name
