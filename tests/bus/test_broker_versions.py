from __future__ import annotations

import pytest

from federation.bus.broker_versions import known_defects, parse_version, read_announcement
from federation.bus.errors import UnsupportedBroker


@pytest.mark.parametrize(
    ("version", "word"),
    [("4.0.0", "takeover"), ("4.1.1", "takeover"), ("4.3.0", "deadlocks"), ("4.3.5-beta.1", "deadlocks")],
)
def test_a_version_with_a_known_defect_says_which(version, word):
    assert [word in text for text in known_defects(f"RabbitMQ {version}")] == [True]


@pytest.mark.parametrize("version", ["4.1.2", "4.2.0", "4.3.6", "5.0.0"])
def test_a_version_without_known_defects_has_none(version):
    assert known_defects(version) == []


@pytest.mark.parametrize(
    "properties",
    [
        {"product": "RabbitMQ", "version": "3.13.7"},
        {"product": "Qpid", "version": "9.0.0"},
        {"product": "RabbitMQ", "version": "new"},
        {},
    ],
)
def test_what_is_not_rabbitmq_4_is_refused_by_name(properties):
    with pytest.raises(UnsupportedBroker, match=properties.get("product", "unnamed")):
        read_announcement(properties)


def test_a_supported_broker_is_named():
    assert read_announcement({"product": "RabbitMQ", "version": "4.0.5"}) == "RabbitMQ 4.0.5"


def test_a_text_without_a_version_is_an_error():
    with pytest.raises(ValueError, match="names no version"):
        parse_version("RabbitMQ")
