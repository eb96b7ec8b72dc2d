"""Fuzzing of everything that reads what others wrote.

``python -m tests.fuzz --target heads --seconds 600``.
A failure prints the seed that makes it again.
"""
