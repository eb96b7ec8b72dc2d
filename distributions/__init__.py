"""The two distributions, made from one tree: ``python -m distributions FOLDER``."""
