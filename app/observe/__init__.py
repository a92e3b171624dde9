"""Logs, metrics and traces tell of a running relay."""
