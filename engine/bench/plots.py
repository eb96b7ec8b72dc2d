"""Plots as SVG text, without a dependency. PURE.

What lives here: bars with whiskers. What must not: what is plotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW, _BAR, _LABEL, _WIDTH, _RIGHT = 24, 14, 120, 640, 150
_TOP, _BOTTOM = 8, 26


@dataclass(frozen=True, slots=True)
class Bar:
    """A median and its range; ``ours`` has another colour."""

    label: str
    median: float
    least: float
    most: float
    ours: bool = False


def bars(bars_of: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero, the range of each as a whisker, its figures beside it."""
    most = max((bar.most for bar in bars_of), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - _RIGHT) / most
    height = _TOP + _ROW * len(bars_of) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">'
    ]
    parts += _grid(most, scale, _TOP + _ROW * len(bars_of), unit)
    for number, bar in enumerate(bars_of):
        parts += _bar(bar, _TOP + number * _ROW, scale, unit)
    return "".join([*parts, "</svg>"])


def _bar(bar: Bar, top: float, scale: float, unit: str) -> list[str]:
    middle = top + _ROW / 2
    left, right = _LABEL + bar.least * scale, _LABEL + bar.most * scale
    kind = "ours" if bar.ours else "peer"
    figures = f"{bar.median:.3g} {unit} [{bar.least:.3g}..{bar.most:.3g}]"
    return [
        f'<text x="{_LABEL - 6}" y="{middle + 4:.1f}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{_LABEL}" y="{middle - _BAR / 2:.1f}" '
        f'width="{bar.median * scale:.1f}" height="{_BAR}"/>',
        f'<path class="range" d="M{left:.1f} {middle - 4:.1f}v8M{left:.1f} {middle:.1f}'
        f'H{right:.1f}M{right:.1f} {middle - 4:.1f}v8"/>',
        f'<text x="{right + 8:.1f}" y="{middle + 4:.1f}">{escape(figures)}</text>',
    ]


def _grid(most: float, scale: float, bottom: float, unit: str) -> list[str]:
    step = tick(most)
    parts = []
    value = 0.0
    while value <= most:
        x = _LABEL + value * scale
        parts.append(
            f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{value:g}{' ' + escape(unit) if value == 0 else ''}</text>"
        )
        value = round(value + step, 9)
    return parts


def tick(most: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that makes 2 to 6 marks."""
    step = 1.0
    while step > most / 2:
        step /= 10
    while step * 10 <= most / 2:
        step *= 10
    for factor in (1, 2, 5):
        if most / (step * factor) <= 6:
            return step * factor
    return step * 10
