"""Secrets and signatures of a webhook, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from app.errors import Mistake

RAW = "body"
ENCODINGS = ("hex", "base64")
KEYS: Mapping[str, Callable[[bytes], bytes]] = {
    "secret": lambda secret: secret,
    "sha256hex(secret)": lambda secret: hashlib.sha256(secret).hexdigest().encode(),
    "sha256(secret)": lambda secret: hashlib.sha256(secret).digest(),
}


def verify_secret(header_value: str | None, secrets: Sequence[str]) -> bool:
    """Tell whether a header is the hex SHA-256 of one of `secrets`.

    Takes as long for any wrong value, and compares with every secret. Blank secrets fit nothing. Never raises.
    """
    given = (header_value or "").strip().encode("utf-8", "replace").lower()
    fits = False
    for secret in secrets:
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest().encode()
        fits |= hmac.compare_digest(given, digest) and bool(secret.strip())
    return fits


def find_secret_mistake(header_value: str | None, secrets: Sequence[str]) -> Mistake | None:
    """Return what is wrong with the hex SHA-256 of a secret, None if it fits one of `secrets`. Never raises."""
    if verify_secret(header_value, secrets):
        return None
    given = (header_value or "").strip().encode("utf-8", "replace")
    plain = [hmac.compare_digest(given, secret.strip().encode("utf-8", "replace")) for secret in secrets]
    if not given:
        return Mistake.MISSING
    return Mistake.PLAIN if any(plain) else Mistake.OTHER


def match_hmac(
    header_value: str | None, secrets: Sequence[str], signed: Mapping[str, bytes], only: str = ""
) -> str | None:
    """Return the scheme by which a header signs one of the contents in `signed`; None if none does.

    Where a source documents neither key nor encoding nor what is signed, every likely one is tried; or `only` one
    scheme, once a capture has shown it. `signed`: see list_signed. Never raises.
    """
    given = (header_value or "").strip().removeprefix("sha256=").encode("utf-8", "replace")
    found = None
    for over, content in signed.items():
        for secret in filter(str.strip, secrets):
            for name, make_key in KEYS.items():
                digest = hmac.digest(make_key(secret.encode("utf-8", "replace")), content, "sha256")
                for encoding, expected in (("hex", digest.hex().encode()), ("base64", base64.b64encode(digest))):
                    if hmac.compare_digest(given.lower() if encoding == "hex" else given, expected):
                        scheme = name_scheme(encoding, name, over)
                        found = found or (scheme if only in {"", scheme} else None)
    return found


def name_scheme(encoding: str, key: str, over: str) -> str:
    """Return `hex/key=secret`, and `/over=timestamp.body` where it is not the raw body that is signed."""
    return f"{encoding}/key={key}" + ("" if over == RAW else f"/over={over}")


def list_schemes() -> list[str]:
    """Return every scheme that can be asked for."""
    overs = list_signed(b"{}", "", "")
    return [name_scheme(encoding, key, over) for over in overs for key in KEYS for encoding in ENCODINGS]


def list_signed(body: bytes, time: str, id_: str) -> dict[str, bytes]:
    """Return what a sender may have signed, by name, the raw body first. `time` and `id_`: of the headers."""
    return {RAW: body, **{name: content.encode("utf-8", "replace") for name, content in _join(body, time, id_)}}


def _join(body: bytes, time: str, id_: str) -> Iterator[tuple[str, str]]:
    text = body.decode("utf-8", "replace")
    yield "timestamp.body", f"{time}.{text}"
    yield "timestamp+body", f"{time}{text}"
    yield "id.timestamp.body", f"{id_}.{time}.{text}"
    # What a sender's JSON library makes of it: JavaScript writes no blanks, and some sort the keys first.
    for name, sort in (("compact", False), ("compact-sorted", True)):
        yield name, _write_compact(text, sort=sort)


def _write_compact(text: str, *, sort: bool) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
    except (ValueError, RecursionError):
        return text
