"""Tests of the planes. A package, because other rooms have files of the same names."""
