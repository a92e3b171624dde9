"""The known-bad control: the relay with uvicorn's own protocol, as it was. Run as `python stock_relay.py serve …`."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.strangers import Gate
from app.cli import serve


def open_stock(_gate: Gate, **given: Any) -> HttpToolsProtocol:
    return HttpToolsProtocol(**given)


if __name__ == "__main__":
    serve.Connection = open_stock  # type: ignore[assignment, attr-defined]  # imported there
    from app.__main__ import main

    main()
