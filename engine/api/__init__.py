"""Engine: joins the rooms. The only room that knows all of them.

``engine.py`` is the front, ``opened.py`` what exists while an engine is open.
"""

from engine.api.engine import Engine
from engine.api.statistics import EngineStatistics

__all__ = ["Engine", "EngineStatistics"]
