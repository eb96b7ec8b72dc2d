"""The one room that imports aioboto3, and the only door to it is ``client.py``."""
