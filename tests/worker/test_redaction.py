"""No secret leaves the process in a text."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.worker.redaction import LONGEST_TEXT, Redactor, secrets_of


@pytest.mark.parametrize(
    "text",
    [
        "qemu+ssh://root:hunter2@host/system",
        "federation://w:hunter2@h1:5672,h2:5672/vhost",
        "password=hunter2",
        "Password: hunter2, next",
        '{"token": "hunter2"}',
        "secret='hunter2'",
        "Authorization: Bearer hunter2",
        "api_key = hunter2",
        "passphrase=hunter2;",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    cleaned = Redactor().text(text)
    assert "hunter2" not in cleaned
    assert "***" in cleaned


def test_ordinary_words_stay_as_they_are():
    text = "domain vm-1 on node n1: pass 2 of 3, tokens left 4, see https://host/path"
    assert Redactor().text(text) == text


class Login(msgspec.Struct):
    user: str
    password: str
    api_key: str = ""


class Settings(msgspec.Struct):
    login: Login
    ssh: dict[str, str]
    secrets: tuple[str, ...]
    port: int


def test_values_of_fields_that_are_named_like_secrets_are_found_at_any_depth():
    settings = Settings(Login("root", "hunter2", "abcdef"), {"token_file": "tok1", "user": "bob"}, ("s3cr", "x"), 22)
    assert secrets_of(settings) == {"hunter2", "abcdef", "tok1", "s3cr"}


@given(st.text(), st.text(min_size=4, alphabet=st.characters(categories=["Lu", "Ll", "Nd"])))
def test_a_known_secret_never_shows_and_the_text_can_be_sent(text, secret):
    cleaned = Redactor([secret]).text(f"{text}{secret}{text}")
    assert secret not in cleaned or secret in "***…"
    assert len(cleaned) <= LONGEST_TEXT
    cleaned.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in cleaned)
