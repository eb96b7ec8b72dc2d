"""The clients of ``benchmarks.compare``: one runner each, run by the Python of its own venv.

What lives here: nothing that costs start-up; every measured process imports this.
"""
