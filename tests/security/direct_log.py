"""The known-bad control: a relay that writes each line itself, as loggers do unless they are told otherwise.

Run as `python direct_log.py serve …`.
"""

from __future__ import annotations

import sys

from app.observe import logs


def write_directly() -> None:
    """Hand the loggers stdout itself, and let what they raise reach whoever logs."""

    def write(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()

    def raise_again() -> None:
        raise  # noqa: PLE0704  # what is being handled

    logs._open_stream = lambda stdout: (write, None)  # noqa: ARG005  # as it is called
    logs._drop_line = raise_again
    logs.Reports.add = logs.PromptReports.add  # type: ignore[method-assign,assignment]  # it waits for no better moment


if __name__ == "__main__":
    write_directly()
    from app.__main__ import main

    main()
