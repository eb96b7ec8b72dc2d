"""The one line that moves on a terminal, drawn by rich. Imported only where stderr is one."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text

# Redraws a second. More costs CPU that the transfer wants; fewer looks stuck.
REDRAWS_PER_SECOND = 4


class LiveLine:
    """A status line at the bottom; other lines scroll above it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console, refresh_per_second=REDRAWS_PER_SECOND, transient=True
        )
        self._live.start()

    def show(self, text: str) -> None:
        """Replace the status line."""
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))

    def print(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text))

    def stop(self) -> None:
        """Take the status line away."""
        self._live.stop()
