"""Nothing that opens a door is shown."""

from __future__ import annotations

import pytest

from federation.manager.showing import without_secrets
from federation.worker.redaction import Redactor


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://images/x.qcow2", "https://images/x.qcow2"),
        ("https://me:hidden@images/x", "https://***@images/x"),
        ("https://me:hid@den@images/x", "https://***@images/x"),
        ("https://token@images:8443/x@y", "https://***@images:8443/x@y"),
        ("https://store/x?X-Signature=hidden&Expires=7", "https://store/x?***"),
        ("https://me:hid@den@store/x?sig=hidden#part", "https://***@store/x?***#part"),
        ("https://store/x?mail=a@b", "https://store/x?***"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("is it https://a/b or c?", "is it https://a/b or c?"),
    ],
)
def test_a_url_is_shown_without_login_and_signature(url, shown):
    assert without_secrets({"boot": [{"url": url}]}) == {"boot": [{"url": shown}]}
    assert without_secrets(shown) == shown


@pytest.mark.parametrize("password", ["hidden", "hid@den", "@hidden", "hidden@"])
def test_a_worker_reports_no_password_of_a_url_whatever_is_in_it(password):
    text = Redactor().text(f"cannot read ftp://me:{password}@images/x: refused")
    assert "hid" not in text
    assert "den" not in text
    assert "@images/x: refused" in text


def test_a_worker_reports_no_signature_of_a_url():
    text = Redactor().text("GET 'https://store/x?X-Signature=hidden&Expires=7' answers 403, see http://help/#a?b")
    assert text == "GET 'https://store/x?***' answers 403, see http://help/#a?b"
