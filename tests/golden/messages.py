"""Messages with every part that there is: as their bytes stand in the outbox, and as each provider got them.

`python -m tests.golden.messages` writes both to tests/golden/frozen, a file a message.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.outside import FakeProvider, describe_account, read_ids, read_rows, run_provider, run_relay

FOLDER = Path(__file__).with_name("frozen")
BEFORE = Path(__file__).with_name("frozen-1")
"""The same as release b3d2abe froze and sent it, whose bytes had no version yet: never written anew."""
ID = "DELIVERY"  # in place of each delivery's own
PAYLOAD = {
    "user_name": "Riya Šarma",
    "user_mobile": "9800000001",
    "amount": "1250",
    "code": 'ACME "7Q2P" & ₹ 🎉\\',
    "url": "https://cdn.acme.example/a/picture%20one.png?x=1&y=ä",
    "file": "https://cdn.acme.example/bill.pdf",
    "tier": "Gold",
    "order": "10/42 ä",
}
POSITIONAL = "variables: [user_name, amount | number, code]"
NAMED = "variables: {name: user_name, coins: amount | number, code: code}"
ROUTES = {
    "plain": "",
    "positional": POSITIONAL,
    "named": NAMED,
    "constant": "variables: [{text: Acme}]",
    "language": f"language: en_US, {POSITIONAL}",
    "header-text": f"header: {{text: tier}}, {POSITIONAL}",
    "header-image": f"header: {{image: url}}, {NAMED}",
    "header-image-constant": "header: {image: {text: 'https://cdn.acme.example/coins.png'}}",
    "header-video": "header: {video: url}",
    "header-document": "header: {document: file}",
    "header-document-filename": "header: {document: file, filename: {text: bill.pdf}}",
    "button": f"buttons: [{{index: 0, url: order}}], {POSITIONAL}",
    "buttons": "buttons: [{index: 0, url: order}, {index: 1, url: code}]",
    "whole": f"language: hi, header: {{document: file, filename: code}}, buttons: [{{index: 1, url: order}}], {NAMED}",
}
_BODY = (
    "{deliveryId: $delivery_id, templateId: $template, to: $phone, plus: $phone_plus, name: $name, lang: $language, "
    "values: $variables, header: $header, kind: $header_kind, link: $header_value, file: $header_filename, "
    "buttons: $buttons}"
)
_OTHER_BODY = (
    "{deliveryId: $delivery_id, templateId: $template, to: $phone, named: $variables_by_name, all: $text_parameters}"
)


def list_routes() -> dict[str, tuple[str, str]]:
    """Return each route's account and keys. BiteSpeed's templates have no named variables."""
    return {
        f"{account}-{name}": (account, keys)
        for account in ("gallabox", "bitespeed", "http")
        for name, keys in ROUTES.items()
        if account != "bitespeed" or NAMED not in keys
    }


def write_yaml(url: str) -> str:
    """Return the YAML of every message at every type of provider."""
    accounts = (
        describe_account("gallabox", url, rate="100/s")
        + f"  bitespeed: {{type: bitespeed, base_url: '{url}', channel_id: '${{KEY}}', user_id: '${{KEY}}', "
        + f"rate: 100/s, body: {_BODY}}}\n"
        + f"  http: {{type: http, base_url: '{url}', path: /send, rate: 100/s, body: {_OTHER_BODY}}}\n"
    )
    routes = "".join(
        f"  {name}: {{{', '.join(filter(None, (f'event: {name}, provider: {account}, template: {name}', keys)))}}}\n"
        for name, (account, keys) in list_routes().items()
    )
    return f"version: 1\nproviders:\n{accounts}routes:\n{routes}"


def freeze_messages(folder: Path) -> dict[str, dict[str, Any]]:
    """Return each route's message as today's relay freezes and sends it."""
    with run_provider() as provider:
        (folder / "relay.yaml").write_text(write_yaml(provider.url))
        with run_relay(folder) as relay:
            # One person gets a message every 6 s: each message has a person of its own.
            people = [{**PAYLOAD, "user_mobile": f"98000000{number:02}"} for number in range(100)]
            ids = [id_ for name, person in zip(list_routes(), people, strict=False) for id_ in relay.post(name, person)]
            for id_ in ids:
                relay.wait_for(id_, "accepted")
            rows = read_rows(folder / "relay.db", "SELECT id, route, recipient, message, checksum FROM deliveries")
        requests = list_requests(provider)
    return {
        route: {"recipient": to, "message": frozen.decode("ascii"), "checksum": checksum, "request": requests[id_]}
        for id_, route, to, frozen, checksum in rows
    }


def list_requests(provider: FakeProvider) -> dict[str, dict[str, str]]:
    """Return the request of each delivery, without its id; a second one is an error."""
    found: dict[str, dict[str, str]] = {}
    for path, headers, body in provider.requests:
        id_ = read_ids(body)[0]
        assert id_ not in found, f"{id_} was sent twice"
        kept = {name: value for name, value in headers.items() if name in {"content-type", "apikey", "apisecret"}}
        found[id_] = {"path": path, **kept, "body": body.decode().replace(id_, ID)}
    return found


def read_kept(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Return the messages as they were written down."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def main() -> None:
    """Write every message anew."""
    with tempfile.TemporaryDirectory() as folder:
        frozen = freeze_messages(Path(folder))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name, message in frozen.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(message, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
