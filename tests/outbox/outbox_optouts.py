"""The model's memory of people: who gets no marketing, who wants it again, whose number cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.model.delivery import Delivery, Reason, State


@dataclass
class OptOuts:
    """By E.164 number; "" is nobody."""

    suppressed: dict[str, tuple[str, int]] = field(default_factory=dict)  # → why, and since when
    lifted: dict[str, int] = field(default_factory=dict)
    unreachable: dict[str, int] = field(default_factory=dict)

    def suppress(self, number: str, reason: str, said_at: int | None, now: int) -> bool:
        since = now if said_at is None else said_at
        if not number:
            return False
        if number in self.suppressed:
            why, before = self.suppressed[number]
            self.suppressed[number] = (why, max(since, before))
            return False
        if said_at is not None and self.lifted.get(number, said_at) > said_at:
            return False
        self.suppressed[number] = (reason, since)
        return True

    def lift(self, number: str, said_at: int | None, now: int) -> bool:
        if not number:
            return False
        at = now if said_at is None else min(said_at, now)
        if said_at is not None:
            self.lifted[number] = max(self.lifted.get(number, at), at)
        if number in self.suppressed and self.suppressed[number][1] < at:
            del self.suppressed[number]
            return True
        return False

    def suppress_by_hand(self, numbers: list[str], now: int) -> int:
        return sum(self.suppress(number, "by_hand", None, now) for number in dict.fromkeys(numbers))

    def lift_by_hand(self, numbers: list[str]) -> int:
        return sum(self.suppressed.pop(number, None) is not None for number in dict.fromkeys(numbers))

    def stops(self, it: Delivery, state: State) -> bool:
        return it.marketing and state in {State.PENDING, State.SHADOW} and it.recipient in self.suppressed

    def note_refusal(self, number: str, reason: Reason, now: int, said_at: int | None = None) -> None:
        if reason is Reason.RECIPIENT_OPTED_OUT:
            self.suppress(number, "refused", said_at, now)
        if reason is Reason.RECIPIENT_UNREACHABLE and number:
            self.unreachable.setdefault(number, now)

    def forget(self, before: int) -> None:
        self.unreachable = {number: since for number, since in self.unreachable.items() if since >= before}
        self.lifted = {number: at for number, at in self.lifted.items() if at >= before}
