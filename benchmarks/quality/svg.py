"""A line chart as inline SVG: axes, lines with a legend, markers with tooltips."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Chart", "Marker"]

_WIDTH, _HEIGHT = 980.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 720.0, 14.0, 330.0
"""The plot's edges; the legend is to its right."""


class Marker(NamedTuple):
    """A dot with a tooltip and an optional label."""

    x: float
    y: float
    colour: str
    tooltip: str
    label: str = ""


class Chart:
    """A chart whose axes cover the given values.

    Examples
    --------
    >>> chart = Chart([1.0, 2.0], [0.0, 1.0], "x", "y")
    >>> chart.line([(1.0, 0.0), (2.0, 1.0)], "#000", "a < b")
    >>> "a &lt; b" in chart.svg()
    True
    """

    def __init__(self, xs: Sequence[float], ys: Sequence[float], x_title: str, y_title: str, *, log_x: bool = False):
        self._log_x = log_x
        self._least_x = min((x for x in xs if x > 0.0), default=1e-9) if log_x else 0.0
        across = [self._scale(x) for x in xs]
        self._x = _range(across)
        self._y = _range(ys)
        self._titles = x_title, y_title
        self._body: list[str] = []
        self._legend: list[tuple[str, str, bool]] = []

    def line(self, points: Sequence[tuple[float, float]], colour: str, name: str, *, strong: bool = False) -> None:
        """Connect points from left to right, and add the line to the legend."""
        corners = " ".join(f"{self._across(x):.1f},{self._down(y):.1f}" for x, y in sorted(points))
        self._body.append(
            f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="{3 if strong else 1.3}"/>'
        )
        self._legend.append((name, colour, strong))

    def marker(self, marker: Marker) -> None:
        """Add a dot."""
        x, y = self._across(marker.x), self._down(marker.y)
        self._body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{marker.colour}">'
            f"<title>{escape(marker.tooltip)}</title></circle>"
        )
        if marker.label:
            side = 'text-anchor="end" ' if x > 0.6 * _RIGHT else ""
            beside = x - 6 if side else x + 6
            self._body.append(
                f'<text x="{beside:.1f}" y="{y + 13:.1f}" {side}fill="#6b7280">{escape(marker.label)}</text>'
            )

    def svg(self) -> str:
        """Return the picture."""
        return (
            f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(self._titles[1])} by '
            f'{escape(self._titles[0])}">' + self._axes() + "".join(self._body) + self._names() + "</svg>"
        )

    def _scale(self, x: float) -> float:
        return math.log10(max(x, self._least_x)) if self._log_x else x

    def _across(self, x: float) -> float:
        low, high = self._x
        return _LEFT + (_RIGHT - _LEFT) * (self._scale(x) - low) / (high - low)

    def _down(self, y: float) -> float:
        low, high = self._y
        return _BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low)

    def _axes(self) -> str:
        parts = []
        for y in _ticks(*self._y):
            at = self._down(y)
            parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e5e8eb"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:.4g}</text>')
        for tick in _ticks(*self._x):
            x = 10.0**tick if self._log_x else tick
            parts.append(f'<text x="{self._across(x):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{x:.2g}</text>')
        middle = (_LEFT + _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{_BOTTOM + 38}" text-anchor="middle">{escape(self._titles[0])}</text>')
        parts.append(
            f'<text transform="translate(14 {(_TOP + _BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self._titles[1])}</text>"
        )
        return "".join(parts)

    def _names(self) -> str:
        return "".join(
            f'<line x1="{_RIGHT + 20}" x2="{_RIGHT + 44}" y1="{18 + 17 * row}" y2="{18 + 17 * row}" stroke="{colour}" '
            f'stroke-width="{3 if strong else 1.3}"/><text x="{_RIGHT + 52}" y="{22 + 17 * row}">{escape(name)}</text>'
            for row, (name, colour, strong) in enumerate(reversed(self._legend))
        )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return about six round numbers within a range.

    Examples
    --------
    >>> _ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
    """
    rough = (high - low) / 6.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
