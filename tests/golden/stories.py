"""Deliveries that went through a running relay to every end there is, and what `explain` tells of each.

One relay and one provider serve all of them at once: each story has an account, a route and a person of its own.
`python -m tests.golden.stories` writes the texts to tests/golden/explain.
"""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.outside import (
    ACCEPT,
    HANG,
    RESET,
    Answer,
    FakeProvider,
    Running,
    describe_account,
    run_provider,
    run_relay,
    wait_until,
)

FOLDER = Path(__file__).with_name("explain")
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Drive = Callable[["Stage"], str]


@dataclass(frozen=True)
class Stage:
    """Where a story plays. A story returns the id of the delivery that it is about."""

    name: str
    phone: str
    relay: Running
    provider: FakeProvider

    def post(self, source_id: str | None = None, **changes: Any) -> str:
        payload = {"user_name": "Riya", "user_mobile": self.phone, "amount": 1250, "code": "ACME-7Q2P", **changes}
        source_id = source_id or f"{self.name}-1"
        (id_,) = self.relay.post(self.name, {k: v for k, v in payload.items() if v is not None}, source_id)
        return id_

    def wait_for(self, id_: str, *states: str, seconds: float = 40) -> str:
        self.relay.wait_for(id_, *states, seconds=seconds)
        return id_

    def report(self, id_: str, status: str, **more: Any) -> None:
        whatsapp = {"status": status, **more}
        self.relay.report(self.name, {"id": f"m-{id_}", "localMessageId": id_, "whatsapp": whatsapp})
        self.relay.wait_for(id_, status, key="receipt")

    def answer(self, id_: str, text: str, name: str = "Message.Received") -> None:
        """Let the customer write, or tap."""
        said = {"from": f"91{self.phone}", "text": {"body": text}, "context": {"id": f"m-{id_}"}}
        self.relay.report(self.name, {"id": f"r-{id_}", "whatsapp": said}, name)

    def hold(self, reason: str = "") -> str:
        self.relay.ops("PUT", f"/holds/route:{self.name}", {"reason": reason} if reason else None)
        return f"route:{self.name}"

    def release(self, scope: str) -> None:
        time.sleep(1.2)  # a wait of a second and more is told
        self.relay.ops("DELETE", f"/holds/{scope}")

    def probe(self, scope: str) -> None:
        """Let the hours until a hold's next probe pass."""
        time.sleep(1.2)
        self.relay.change("UPDATE holds SET probe_at = 0 WHERE scope = ?", scope)
        self.relay.change("UPDATE deliveries SET due_at = 0 WHERE route = ? AND state = 'pending'", self.name)


@dataclass(frozen=True)
class Story:
    """`answers`: the provider's, in order; `route` and `account`: what its YAML has beside the usual; `text`: whole."""

    drive: Drive
    answers: tuple[Answer, ...] = ()
    route: str = ""
    account: Mapping[str, Any] | None = None


def refuse(code: int, status: int = 400) -> Answer:
    return status, {"message": "Refused", "code": code}


def send(*states: str, **changes: Any) -> Drive:
    """Return the drive of a story that only waits for its end."""
    return lambda stage: stage.wait_for(stage.post(**changes), *states)


def _read(stage: Stage) -> str:
    id_ = stage.wait_for(stage.post(), "accepted")
    for status in ("sent", "delivered", "read"):
        stage.report(id_, status)
    return id_


def _fail(stage: Stage) -> str:
    id_ = stage.wait_for(stage.post(), "accepted")
    stage.report(id_, "failed", errors=[{"code": 131026, "title": "Message undeliverable"}])
    return id_


def _report_early(stage: Stage) -> str:
    id_ = stage.post()
    wait_until(lambda: id_ in stage.provider.bodies(), "no request")
    stage.relay.report(stage.name, {"id": f"m-{id_}", "whatsapp": {"status": "delivered"}})
    return stage.wait_for(id_, "accepted")


def _settle(stage: Stage) -> str:
    id_ = stage.wait_for(stage.post(), "unknown")
    stage.report(id_, "delivered")
    return stage.wait_for(id_, "accepted")


def _retry(*states: str) -> Drive:
    def drive(stage: Stage) -> str:
        id_ = stage.wait_for(stage.post(), *states)
        time.sleep(6)  # the gap between two messages to one person
        stage.relay.ops("POST", f"/deliveries/{id_}/retry")
        return stage.wait_for(id_, "accepted")

    return drive


def _resend(end: str) -> Drive:
    def drive(stage: Stage) -> str:
        id_ = stage.post()
        wait_until(lambda: len(stage.provider.bodies().get(id_, ())) == 2, "not sent again", 60)
        return stage.wait_for(id_, end)

    return drive


def _click(stage: Stage) -> str:
    id_ = stage.wait_for(stage.post(), "accepted")
    stage.answer(id_, "Use my coins", "Message.WA.Interaction.Received")
    return id_


def _opt_out(stage: Stage) -> str:
    stage.answer(stage.wait_for(stage.post(), "accepted"), "STOP")
    return stage.wait_for(stage.post(f"{stage.name}-2"), "suppressed")


def _suppress(stage: Stage) -> str:
    stage.hold()
    id_ = stage.post()
    stage.relay.ops("POST", "/suppressions", {"phones": [f"+91{stage.phone}"]})
    stage.release(f"route:{stage.name}")
    return stage.wait_for(id_, "suppressed")


def _repeat(stage: Stage) -> str:
    stage.wait_for(stage.post(), "accepted")
    return stage.wait_for(stage.post(f"{stage.name}-2"), "suppressed")


def _hold(stage: Stage) -> str:
    stage.hold("wrong text")
    return stage.wait_for(stage.post(), "held")


def _release(stage: Stage) -> str:
    scope = stage.hold("wrong text")
    id_ = stage.wait_for(stage.post(), "held")
    stage.release(scope)
    return stage.wait_for(id_, "accepted")


def _probe(scope: str, *, by_hand: bool = False) -> Drive:
    def drive(stage: Stage) -> str:
        id_ = stage.wait_for(stage.post(), "held")
        name = scope.format(stage.name)
        stage.release(name) if by_hand else stage.probe(name)
        return stage.wait_for(id_, "accepted")

    return drive


def _expire(stage: Stage) -> str:
    stage.hold()
    return stage.wait_for(stage.post(), "expired")


def _refuse_often(stage: Stage) -> str:
    ids = [stage.post(f"{stage.name}-{number}", user_mobile=f"98000000{number}") for number in range(90, 95)]
    stage.wait_for(ids[-1], "dead")
    return stage.wait_for(stage.post(f"{stage.name}-6", user_mobile="9800000095"), "held")


def _damage(stage: Stage) -> str:
    scope = stage.hold()
    id_ = stage.post()
    stage.relay.change("UPDATE deliveries SET message = CAST('{' AS BLOB) WHERE id = ?", id_)
    stage.release(scope)
    return stage.wait_for(id_, "dead")


def _follow(stage: Stage) -> str:
    for number in range(15):  # the last of them waits longer than all the stories take
        id_ = stage.post(f"{stage.name}-{number}")
    return id_


def _erase(stage: Stage) -> str:
    scope = stage.hold()
    id_ = stage.post()
    time.sleep(1.2)  # so that its wait is told on a fast machine, too
    stage.relay.ops("POST", "/erase", {"phone": f"+91{stage.phone}"})
    stage.release(scope)
    return stage.wait_for(id_, "suppressed")


def _erase_ended(stage: Stage) -> str:
    id_ = stage.wait_for(stage.post(), "accepted")
    stage.report(id_, "read")
    stage.relay.ops("POST", "/erase", {"phone": f"+91{stage.phone}"})
    return id_


def _try(stage: Stage) -> str:
    sent = stage.relay.ops("POST", "/send-test", {"route": stage.name, "to": f"+91{stage.phone}"})
    return stage.wait_for(sent["id"], "accepted")


def _open(stage: Stage) -> str:
    id_ = stage.post()
    wait_until(lambda: id_ in stage.provider.bodies(), "no request")
    return id_


RESENDS = "on_unknown: resend, "
EXAMPLE = "examples: [{event: {user_name: Riya, user_mobile: '9800000001', amount: 1250, code: A}}], "
STORIES: dict[str, Story] = {
    "accepted": Story(send("accepted")),
    "accepted-delivered-read": Story(_read),
    "accepted-failed": Story(_fail),
    "accepted-clicked": Story(_click),
    "receipt-early": Story(_report_early, ("wait 1",)),
    "test": Story(_try, route=EXAMPLE),
    # tried again
    "retried-after-503": Story(send("accepted"), ((503, {"message": "busy", "retry_after": 1}),)),
    "retried-after-429": Story(send("accepted"), ((429, {"message": "slow", "retry_after": 1}),)),
    "retried-after-500": Story(send("accepted"), ((500, {"message": "oops"}),)),
    "pending-rate-limited": Story(lambda stage: _wait_attempts(stage, 1), ((429, {"message": "slow"}),)),
    "pending-capped": Story(lambda stage: _wait_attempts(stage, 1), (refuse(131049),), "valid_for: 5d, "),
    "pending-in-the-gap": Story(_follow),
    "sending": Story(_open, (HANG,), "", {"timeout": "60s"}),
    # may have arrived
    "unknown-timed-out": Story(send("unknown"), (HANG,), "", {"timeout": "1s"}),
    "unknown-gateway": Story(send("unknown"), ((504, {"message": "gateway"}),)),
    "unknown-unreadable": Story(send("unknown"), ((200, b"<html>"),)),
    "unknown-settled": Story(_settle, (RESET,)),
    "unknown-resent": Story(_resend("accepted"), (RESET,), RESENDS),
    "unknown-twice": Story(_resend("unknown"), (RESET, RESET), RESENDS),
    "unknown-retried-by-hand": Story(_retry("unknown"), (RESET,)),
    # not sent
    "expired-on-hold": Story(_expire, route="valid_for: 2s, "),
    "expired-backing-off": Story(send("expired"), ((503, {"message": "busy"}),), "valid_for: 5s, "),
    "suppressed-duplicate": Story(_repeat, route="dedup_by: code, "),
    "suppressed-after-stop": Story(_opt_out),
    "suppressed-by-hand": Story(_suppress),
    "shadow": Story(send("shadow"), route="mode: shadow, "),
    "shadow-not-live": Story(send("shadow"), route="live_from: '2099-01-01T00:00:00+05:30', "),
    "shadow-not-chosen": Story(send("shadow"), route="only: ['+919800000099'], "),
    # dead at intake
    "dead-variable-missing": Story(send("dead", amount=None)),
    "dead-variable-invalid": Story(send("dead", amount="many")),
    "dead-recipient-missing": Story(send("dead", user_mobile=None)),
    "dead-recipient-invalid": Story(send("dead", user_mobile="98000")),
    "dead-expression-failed": Story(send("dead", amount=0), route="when: (1 / (amount | float)) > 0, "),
    "dead-deadline-invalid": Story(send("dead"), route="valid_until: code, "),
    "expired-at-intake": Story(send("expired", until="2020-01-01"), route="valid_until: until, "),
    # refused
    "dead-request-refused": Story(send("dead"), ((422, {"message": "No"}),)),
    "dead-request-refused-retried": Story(_retry("dead"), ((422, {"message": "No"}),)),
    "dead-parameters-refused": Story(send("dead"), (refuse(132012),)),
    "dead-unreachable": Story(send("dead"), (refuse(131026),)),
    "dead-opted-out": Story(send("dead"), (refuse(131050),)),
    "held-redirected": Story(send("held"), ((302, {"message": "there"}),)),
    "dead-message-damaged": Story(_damage),
    "suppressed-erased": Story(_erase),
    "accepted-erased": Story(_erase_ended),
    # held
    "held-by-hand": Story(_hold),
    "held-by-hand-released": Story(_release),
    "held-template-refused": Story(send("held"), (refuse(132001),)),
    "held-template-refused-released": Story(_probe("template:{0}/{0}", by_hand=True), (refuse(132001),)),
    "held-template-paused-probed": Story(_probe("template:{0}/{0}"), (refuse(132015), ACCEPT)),
    "held-parameters-of-template": Story(send("held"), (refuse(132000),)),
    "held-credentials-refused": Story(send("held"), (refuse(190, 401),)),
    "held-credentials-probed": Story(_probe("provider:{0}"), (refuse(190, 401), ACCEPT)),
    "held-balance-empty": Story(send("held"), (refuse(131042),)),
    "held-account-blocked": Story(send("held"), (refuse(131031),)),
    "held-refused-repeatedly": Story(_refuse_often, ((422, {"message": "No"}),) * 5),
}
LATER_STORIES: dict[str, Story] = {
    "dies": Story(_open, (HANG,), "", {"timeout": "60s"}),
    "dies-resent": Story(_open, (HANG,), RESENDS, {"timeout": "60s"}),
    "mended": Story(send("dead", amount=None)),
    "wiped": Story(_read),
    "restored": Story(_hold),
}
"""They need a restart, or another YAML."""


def _wait_attempts(stage: Stage, count: int) -> str:
    id_ = stage.post()
    wait_until(lambda: len(stage.provider.bodies().get(id_, ())) >= count, "no request")
    return stage.wait_for(id_, "pending")


def write_yaml(url: str, *, mended: bool = False) -> str:
    stories = {**STORIES, **LATER_STORIES}
    accounts = "".join(describe_account(name, url, **(story.account or {})) for name, story in stories.items())
    routes = "".join(
        f"  {name}: {{event: {name}, provider: {name}, template: {name}, {story.route}"
        f"variables: [user_name, {'amount | default(7)' if mended else 'amount'} | number, code]}}\n"
        for name, story in stories.items()
    )
    return f"version: 1\nproviders:\n{accounts}routes:\n{routes}"


def tell_stories(folder: Path) -> dict[str, str]:
    """Play every story; return what is told of each, without the ids and times of the day."""
    script = {name: list(story.answers) for name, story in {**STORIES, **LATER_STORIES}.items()}
    with run_provider(script) as provider:
        (folder / "relay.yaml").write_text(write_yaml(provider.url))
        settings = {"RELAY_SETTLE_AFTER": "1s", "RELAY_TEST_NUMBERS": ",".join(f"+9198000000{n:02}" for n in range(90))}
        told: dict[str, str] = {}
        with run_relay(folder, **settings) as relay:
            stages = {
                name: (story, Stage(name, f"98000000{number:02}", relay, provider))
                for number, (name, story) in enumerate({**STORIES, **LATER_STORIES}.items())
            }
            with ThreadPoolExecutor(len(stages)) as pool:
                playing = {name: pool.submit(story.drive, stage) for name, (story, stage) in stages.items()}
            if wrong := [error for played in playing.values() if (error := played.exception()) is not None]:
                raise BaseExceptionGroup("stories that did not come to their end", wrong)
            ids = {name: played.result() for name, played in playing.items()}
            told |= {name: tell(relay, ids[name]) for name in STORIES}
            relay.backup(folder / "copy.db")
            relay.end(signal.SIGKILL)
        return told | dict(_tell_later(folder, ids, provider, settings))


def _tell_later(
    folder: Path, ids: Mapping[str, str], provider: FakeProvider, settings: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Tell what a death of the process, a mended YAML and the end of the retention leave to tell."""
    with run_relay(folder, **settings) as relay:
        yield "process-died", tell(relay, ids["dies"])
        yield "process-died-resent", tell(relay, relay.wait_for(ids["dies-resent"], "accepted")["id"])
        (folder / "relay.yaml").write_text(write_yaml(provider.url, mended=True))
        relay.ops("POST", "/reload")
        plan = relay.ops("POST", "/replay", {"state": "dead", "route": "mended"})["plan_id"]
        (again,) = relay.ops("POST", "/replay", {"apply": plan})["deliveries"]
        yield "replayed", tell(relay, relay.wait_for(again["id"], "accepted")["id"])
        yield "dead-replayed", tell(relay, ids["mended"])
    with run_relay(folder, **settings, RELAY_PAYLOAD_RETENTION="1s") as relay:
        wait_until(lambda: relay.ops("GET", f"/deliveries/{ids['wiped']}")["message"] is None, "not wiped")
        yield "wiped", tell(relay, ids["wiped"])
    with run_relay(folder, **settings, RELAY_DATABASE_URL=f"sqlite:///{folder / 'copy.db'}") as relay:
        yield "restored", tell(relay, ids["restored"])
        yield "restored-sending", tell(relay, ids["sending"])


def tell(relay: Running, id_: str) -> str:
    """Return what `explain` prints, without the ids and times of the day."""
    return hide_day(relay.cli("explain", id_))


def hide_day(text: str) -> str:
    text = re.sub(rf"^{TIME.pattern} +\+[\d.]+ (?:ms|s|min)  ", "AT  ", text, flags=re.MULTILINE)
    text = TIME.sub("TIME", ID.sub("ID", text))
    text = re.sub(r"relay\.yaml:\d+", "relay.yaml:LINE", re.sub(r"config [0-9a-f]{12}", "config HASH", text))
    text = re.sub(r"\d[\d.]* (?:ms|s|min)\b(?! between)", "N", text)
    text = re.sub(r"\((?:RemoteProtocol|Read)Error\)", "(CLOSED)", text)
    # A busy machine makes it wait for its turn, and chance decides how long it backs off.
    passing = ("AT  waited N for its turn", "AT  waited N backing off")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(passing))


def find_changed(told: dict[str, str]) -> list[str]:
    """Return the stories that are told otherwise than was written down, or that are not in both."""
    kept = {path.stem: path.read_text() for path in FOLDER.glob("*.txt")}
    return sorted(name for name in kept | told if kept.get(name) != told.get(name))


def main() -> None:
    """Write every text anew."""
    with tempfile.TemporaryDirectory() as folder:
        told = tell_stories(Path(folder))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name, text in told.items():
        (FOLDER / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
