"""Credential sources, one file each. They do not know each other."""
