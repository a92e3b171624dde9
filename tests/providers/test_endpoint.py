from __future__ import annotations

import pytest

from app.mapping.provider import ProviderSettings
from app.providers.request import check_base_url, secrets_of


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example:8443/v1/", "https://api.example:8443/v1"),
        ("http://127.0.0.1:9100", "http://127.0.0.1:9100"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:9100/x", "http://[::1]:9100/x"),
        ("http://localhost:9100", "http://localhost:9100"),
    ],
)
def test_https_and_loopback_are_fine(url: str, kept: str) -> None:
    assert check_base_url(url, allow_http=False) == kept


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://api.example", "https://"),
        ("http://sandbox:9100", "allow_http"),
        ("http://127.0.0.1.evil.example", "https://"),
        ("http://10.0.0.1", "https://"),
        ("http://169.254.169.254/", "https://"),
        ("ftp://api.example", "https://"),
        ("https://", "host"),
        ("api.example", "https://"),
        ("", "printable"),
        ("https://user:pass@api.example", "without user"),
        ("https://api.example/#x", "fragment"),
        ("https://api.example/a b", "printable"),
        ("https://api.example/\r\nx", "printable"),
        ("https://api.example\\@evil.example", "printable"),
        ("https://api.example:port", "cannot be read"),
        ("https://[::1", "cannot be read"),
    ],
)
def test_other_urls_are_refused_with_a_cure(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_base_url(url, allow_http=False)


def test_plain_http_can_be_allowed() -> None:
    assert check_base_url("http://sandbox:9100/", allow_http=True) == "http://sandbox:9100"


def test_settings_without_secrets_have_none() -> None:
    assert secrets_of(ProviderSettings(type="x"), ["", "b", "aa"]) == ("aa", "b")
