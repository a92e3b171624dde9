from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECRET = "an-invented-secret"
BODY = b'{"user_name": "Riya", "amount": "100"}'


@pytest.fixture
def capture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a capture whose hmac signs `content`."""
    monkeypatch.setenv("SHOP_SECRET", f"older, {SECRET}")

    def write(content: bytes | None, secret: str = SECRET, end: bytes = b"") -> str:
        headers = [b"x-nector-topic: walletreward_create", b"x-nector-timestamp: 1790000000"]
        headers.append(b"x-nector-webhook-secret: " + hashlib.sha256(secret.encode()).hexdigest().encode())
        if content is not None:
            headers.append(b"x-nector-webhook-hmac: " + hmac.digest(secret.encode(), content, "sha256").hex().encode())
        (folder / "capture.txt").write_bytes(b"\n".join(headers) + b"\n\n" + BODY + end)
        return "capture.txt"

    return write


@pytest.mark.parametrize(
    ("content", "end", "told"),
    [
        (
            BODY,
            b"",
            "hex/key=secret holds; write\nRELAY_NECTOR_HMAC=enforce\nRELAY_NECTOR_HMAC_SCHEME=hex/key=secret\n",
        ),
        (BODY, b"\n", "hex/key=secret holds (the body taken without the last newline); write\n"),
        (b"1790000000." + BODY, b"", "hex/key=secret/over=timestamp.body holds; write\n"),
    ],
)
def test_the_recipe_that_holds_is_named_with_its_settings(
    run: Callable[..., Any], capture: Callable[..., str], content: bytes, end: bytes, told: str
) -> None:
    done = run("verify-capture", capture(content, end=end), "--secret-env", "SHOP_SECRET")
    assert done.code == 0
    assert done.out.startswith("x-nector-webhook-secret: holds (the hex SHA-256 of the secret)\n")
    assert f"x-nector-webhook-hmac: {told}" in done.out
    assert SECRET not in done.text


def test_a_request_that_nothing_explains_is_1_and_keeps_log(
    run: Callable[..., Any], capture: Callable[..., str]
) -> None:
    done = run("verify-capture", capture(b"something else"), "--secret-env", "SHOP_SECRET")
    assert done.code == 1
    assert "x-nector-webhook-hmac: none of 36 recipes holds." in done.out
    assert "RELAY_NECTOR_HMAC=log\n" in done.out
    done = run("verify-capture", capture(None), "--secret-env", "SHOP_SECRET")
    assert (done.code, "x-nector-webhook-hmac: is not there; write\nRELAY_NECTOR_HMAC=off\n" in done.out) == (1, True)


def test_another_secret_is_told_apart(run: Callable[..., Any], capture: Callable[..., str], folder: Path) -> None:
    done = run("verify-capture", capture(BODY, secret="another"), "--secret-env", "SHOP_SECRET")
    assert done.code == 1
    assert "x-nector-webhook-secret: does not fit, so the relay would answer 401: is SHOP_SECRET" in done.out
    (folder / "bare.txt").write_text("x-source: unix\n\n{}")
    assert (
        "x-nector-webhook-secret: is not there" in run("verify-capture", "bare.txt", "--secret-env", "SHOP_SECRET").out
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.txt", "--secret-env", "SHOP_SECRET"], "none.txt: cannot be read (No such file or directory)"),
        (
            ["config/relay.yaml"],
            "RELAY_NECTOR_SECRETS is not set: put Nector's webhook secret into it, or name another",
        ),
        (["bad.json", "--secret-env", "SHOP_SECRET"], "bad.json: it looks like JSON and is none"),
    ],
)
def test_bad_input_is_1_and_says_what_to_do(
    run: Callable[..., Any], capture: Callable[..., str], folder: Path, arguments: list[str], told: str
) -> None:
    capture(BODY)
    (folder / "bad.json").write_text("{")
    done = run("verify-capture", *arguments)
    assert done.code == 1
    assert done.err.startswith(f"nector-relay: {told}")
