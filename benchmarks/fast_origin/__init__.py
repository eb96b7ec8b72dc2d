"""An S3 origin in C, so lean that it is not what a comparison measures. See ``src/origin.h``.

What lives here: building it, starting it, asking it. What must not: clients, tables.
"""
