"""Measuring transfers beside other tools: the room of ``s3engine bench``.

What lives here: jobs, the tools that can do them, one measured process a run, the statistics and
the page. What must not: flags and terminals (``cli``), a figure without its conditions. The
arithmetic and the page also serve ``benchmarks/``, which is not part of the package.
"""
