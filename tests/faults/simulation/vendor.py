"""The providers, seen from outside: what reached them, what they took, and how they answered.

They are the oracle of what was really sent. Answers go through the real reading of each provider.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from app.model.delivery import Outcome, Reason, Retryable, Uncertain
from app.model.message import Message
from app.providers.base import Provider, Response, Sent
from tests.faults.simulation.rules import TEMPLATES
from tests.faults.simulation.trace import Trace

MODES = {
    "ok": 40.0,
    "slow": 6.0,
    "refuse": 5.0,
    "503": 3.0,
    "503 wait": 3.0,
    "429": 3.0,
    "429 wait": 3.0,
    "401": 2.0,
    "402": 2.0,
    "template": 4.0,
    "500": 3.0,
    "504": 4.0,
    "timeout": 5.0,
    "reset": 5.0,
    "half": 4.0,
    "any": 12.0,
}
SINGLE = [mode for mode in MODES if mode != "any"]
REFUSALS = (131026, 131050, 131049, 131056, 131008)
MAX_ANSWER_S = 9.0


class Judge(Protocol):
    """What checks every request (oracle.py)."""

    def note_send(self, delivery_id: str, message: Message) -> None:
        """A lane means to send: is the attempt committed?"""

    def note_request(self, provider: str, delivery_id: str) -> None:
        """A request has reached the provider."""

    def note_taken(self, provider: str, delivery_id: str) -> None:
        """The provider has taken the message: the customer gets it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider does with a request: whether it takes the message, and an answer or the way it breaks off."""

    takes: bool
    response: Response | Outcome
    after_s: float


def draw_modes(random: Random, days: float) -> list[tuple[float, str]]:
    """Return when a provider changes its mood, from 0 s on."""
    at_s, modes = 0.0, []
    while at_s < days * 86_400:
        mode = random.choices(list(MODES), list(MODES.values()))[0]
        modes.append((at_s, mode))
        at_s += random.uniform(3_600, 20_000) if mode in ("ok", "any") else random.choice((60, 600, 3_600, 5_400))
    return modes


class Vendor:
    """One provider account. `tell` hears of each message that was taken: (provider, delivery id, its own id)."""

    def __init__(
        self, name: str, random: Random, days: float, judge: Judge, trace: Trace, tell: Callable[[str, str, str], None]
    ) -> None:
        self.name = name
        self._random = random
        self._modes = draw_modes(random, days)
        self._refused_template = random.choice(TEMPLATES)
        self._judge = judge
        self._trace = trace
        self._tell = tell
        self._numbers = 0
        self.calm = False

    def mode_at(self, seconds: float) -> str:
        """Return the mood of the hour."""
        if self.calm:
            return "ok"
        while len(self._modes) > 1 and self._modes[1][0] <= seconds:
            self._modes.pop(0)
        return self._modes[0][1]

    async def send(
        self, provider: Provider, message: Message, delivery_id: str, *, write_within_ms: int, **_: object
    ) -> Sent:
        """Carry one message, as the real client does: connect, look at the deadline, write, wait for the answer."""
        loop = asyncio.get_running_loop()
        write_before = loop.time() + write_within_ms / 1000
        self._judge.note_send(delivery_id, message)
        mode = self.mode_at(loop.time())
        if mode == "any":
            mode = self._random.choice(SINGLE)
        await asyncio.sleep(self._random.choice((0.01, 0.05, 0.3, 4.0)))
        if mode == "refuse":
            return Sent(Retryable(Reason.CONNECT_FAILED), 1)
        if loop.time() >= write_before:
            return Sent(Retryable(Reason.DEADLINE_PASSED), 1)
        answer = self._receive(mode, message, delivery_id)
        await asyncio.sleep(answer.after_s)
        if isinstance(answer.response, Response):
            return Sent(provider.read_response(answer.response), 1, answer.response.status)
        return Sent(answer.response, 1)

    async def close(self) -> None:
        """Hold nothing."""

    def _receive(self, mode: str, message: Message, delivery_id: str) -> Answer:
        self._numbers += 1
        message_id = f"{self.name}-{self._numbers}"
        self._judge.note_request(self.name, delivery_id)
        answer = self._answer(mode, message, message_id)
        self._trace.add(f"{self.name} {mode} {'takes' if answer.takes else 'leaves'} {delivery_id}")
        if answer.takes:
            self._judge.note_taken(self.name, delivery_id)
            self._tell(self.name, delivery_id, message_id)
        return answer

    def _answer(self, mode: str, message: Message, message_id: str) -> Answer:
        draw, after_s = self._random.random(), self._random.choice((0.02, 0.2, 1.5))
        match mode:
            case "503" | "429" | "401" | "402" | "500":
                return Answer(False, _respond(int(mode)), after_s)
            case "503 wait" | "429 wait":
                wait = self._random.choice(("0", "7", "60", "900", "999999", "-5", "soon"))
                return Answer(False, _respond(int(mode[:3]), {"retry-after": wait}), after_s)
            case "template" if message.template == self._refused_template:
                return Answer(False, _respond(400, {}, {"error": {"code": 132001, "message": "no such template"}}), 0.1)
            case "504":
                return Answer(draw < 0.5, _respond(504), after_s)
            case "timeout":
                return Answer(draw < 0.5, Uncertain(Reason.TIMED_OUT), MAX_ANSWER_S)
            case "reset":
                return Answer(draw < 0.5, Uncertain(Reason.CONNECTION_LOST), after_s)
            case "half":
                return Answer(draw < 0.8, Uncertain(Reason.ANSWER_UNREADABLE), after_s)
            case _ if draw < 0.03 and not self.calm:
                code = self._random.choice(REFUSALS)
                return Answer(False, _respond(400, {}, {"error": {"code": code, "message": "refused"}}), after_s)
            case _:
                told = {"id": message_id, "status": "ACCEPTED"}
                return Answer(True, _respond(200, {}, told), MAX_ANSWER_S if mode == "slow" else after_s)


def _respond(status: int, headers: dict[str, str] | None = None, body: object = None) -> Response:
    return Response(status, headers or {}, b"" if body is None else json.dumps(body).encode())
