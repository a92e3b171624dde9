"""A fake Gallabox and BiteSpeed on one port: their wire formats, their strictness, and faults on demand.

A stand-in to develop and test against, never for real customers: it prints the messages and the numbers it is
given, which is what it is for.
"""

from app.sandbox.app import create_sandbox, serve_sandbox
from app.sandbox.faults import parse_faults
from app.sandbox.vendor import SandboxSettings

__all__ = ["SandboxSettings", "create_sandbox", "parse_faults", "serve_sandbox"]
