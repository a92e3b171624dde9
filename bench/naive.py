"""What the relay is compared with: the first thing one would write. Forward, then answer; nothing is kept."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel

try:
    import httpx2
except ImportError:  # bench/beside.py runs it with httpx 0.28, too
    httpx2 = import_module("httpx")


class Event(BaseModel):
    """The three properties that the template needs."""

    user_name: str
    user_mobile: str
    amount: int


client = httpx2.AsyncClient(base_url=os.environ["GALLABOX_BASE_URL"], headers={"apiKey": "bench", "apiSecret": "bench"})


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/nector", status_code=202)
async def forward_event(event: Event, x_nector_delivery_id: Annotated[str, Header()]) -> dict[str, str]:
    recipient = {"name": event.user_name, "phone": f"91{event.user_mobile}"}
    template = {"templateName": "coins_earned", "bodyValues": {"1": event.user_name, "2": str(event.amount)}}
    whatsapp = {"type": "template", "template": template}
    message = {"channelId": "bench", "channelType": "whatsapp", "localMessageId": x_nector_delivery_id}
    answer = await client.post(
        "/devapi/messages/whatsapp", json={**message, "recipient": recipient, "whatsapp": whatsapp}
    )
    answer.raise_for_status()
    return {"status": "accepted"}


@app.get("/healthz")
async def show_health() -> dict[str, str]:
    return {"status": "ok"}
