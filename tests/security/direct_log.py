"""The known-bad control: a relay that writes each line itself, as loggers do unless they are told otherwise.

Run as `python direct_log.py serve …`.
"""

from __future__ import annotations

from app.observe import logs


def write_directly() -> None:
    """Hand the loggers stdout itself, and let what they raise reach whoever logs."""
    logs._open_stream = lambda stdout: stdout  # type: ignore[assignment,return-value]
    logs._make_logger = lambda logger, stream: logger  # noqa: ARG005  # as its own is called


if __name__ == "__main__":
    write_directly()
    from app.__main__ import main

    main()
