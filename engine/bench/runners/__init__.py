"""The measured processes that are ours: a library each, told what to do by one JSON file.

What lives here: nothing that costs start-up; every measured process imports this.
"""
