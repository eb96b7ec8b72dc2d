"""One file a command. They do not know each other; each has a ``command``."""
