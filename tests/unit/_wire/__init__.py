"""Tests of the HTTP client. A package, because other rooms have files of the same names."""
