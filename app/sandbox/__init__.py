"""A fake Gallabox and BiteSpeed on one port: their wire formats, their strictness, and faults on demand.

A stand-in to develop and test against, never for real customers: it prints the messages and the numbers it is
given, which is what it is for.
"""
