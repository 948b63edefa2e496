"""Small SVG charts without scripts; colours are the page's style variables, so they follow its theme."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Line", "Point", "areas", "lines", "scatter"]

Array = NDArray[np.float64]

_WIDTH, _HEIGHT = 560.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 128.0, 12.0, 34.0
_LABEL_GAP = 15.0


class Line(NamedTuple):
    """A curve over the requests, or a horizontal line if all its values are equal."""

    label: str
    values: Array
    style: str
    """CSS classes."""


class Point(NamedTuple):
    """A labelled dot."""

    label: str
    x: float
    y: float
    style: str


def lines(title: str, first: int, curves: Sequence[Line], show: Callable[[float], str]) -> str:
    """Return curves over the number of requests.

    Parameters
    ----------
    first
        Number of the request that the curves' first value belongs to.
    show
        Formats a value of the vertical axis.
    """
    low = min(float(curve.values.min()) for curve in curves)
    high = max(float(curve.values.max()) for curve in curves)
    count = max(len(curve.values) for curve in curves)
    across = _Axis(first, first + count - 1, _LEFT, _WIDTH - _RIGHT)
    up = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP, margin=0.08)
    body = [_grid(across, up, lambda value: f"{value:,.0f}", show, "requests")]
    for curve in curves:
        places = [(across(first + index), up(value)) for index, value in enumerate(curve.values.tolist())]
        body.append(f'<path class="line {curve.style}" d="{_path(places)}"><title>{escape(curve.label)}</title></path>')
    ends = [up(float(curve.values[-1])) for curve in curves]
    for curve, place in zip(curves, _spread(ends), strict=True):
        body.append(_text(_WIDTH - _RIGHT + 6, place + 4, _short(curve.label), f"label {curve.style}"))
    return _svg(title, body)


def areas(title: str, first: int, labels: Sequence[str], shares: Array) -> str:
    """Return stacked areas of shares over the number of requests.

    Parameters
    ----------
    shares
        Shape (points, labels); every row adds up to at most 1.
    """
    across = _Axis(first, first + len(shares) - 1, _LEFT, _WIDTH - _RIGHT)
    up = _Axis(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP)
    edges = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1)
    body = [_grid(across, up, lambda value: f"{value:,.0f}", lambda value: f"{value:.0%}", "requests")]
    places = []
    for column, label in enumerate(labels):
        lower = [(across(first + row), up(value)) for row, value in enumerate(edges[:, column].tolist())]
        upper = [(across(first + row), up(value)) for row, value in enumerate(edges[:, column + 1].tolist())]
        caption = f"{label}: {shares[-1, column]:.0%} at the end"
        style = f"area m{column % 10}"
        body.append(f'<path class="{style}" d="{_path(lower + upper[::-1])}Z"><title>{escape(caption)}</title></path>')
        places.append(up(float(edges[-1, column] + edges[-1, column + 1]) / 2.0))
    for column, (label, place) in enumerate(zip(labels, _spread(places), strict=True)):
        body.append(_text(_WIDTH - _RIGHT + 6, place + 4, _short(label), f"label m{column % 10}"))
    return _svg(title, body)


def scatter(
    title: str, points: Sequence[Point], mix: Sequence[tuple[float, float]], show: Callable[[float], str]
) -> str:
    """Return quality over cost, with cost on a logarithmic scale and the best random mixes as a curve."""
    xs, ys = [math.log10(point.x) for point in points], [point.y for point in points]
    across = _Axis(min(xs), max(xs), _LEFT, _WIDTH - 24, margin=0.12, powers=True)
    up = _Axis(min(ys), max(ys), _HEIGHT - _BOTTOM, _TOP, margin=0.1)
    body = [_grid(across, up, lambda value: show(10.0**value), lambda value: f"{value:.2f}", "cost per 1,000 requests")]
    curve = _path([(across(math.log10(x)), up(y)) for x, y in mix])
    body.append(f'<path class="line mix" d="{curve}"><title>best random mixes of models</title></path>')
    for point in points:
        x, y = across(math.log10(point.x)), up(point.y)
        caption = escape(f"{point.label}: quality {point.y:.3f} at {show(point.x)}")
        radius = 7 if "conduit" in point.style else 4.5
        body.append(
            f'<circle class="{point.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{caption}</title></circle>'
        )
    dots = [(across(math.log10(point.x)), up(point.y)) for point in points]
    taken = [_Box(x - 6.0, x + 6.0, y - 6.0, y + 6.0) for x, y in dots]
    for point, (x, y) in sorted(zip(points, dots, strict=True), key=lambda pair: "conduit" not in pair[0].style):
        place, box = _free_place(point.label, x, y, taken)
        taken.append(box)
        body.append(_text(*place, point.label, f"label {point.style}"))
    return _svg(title, body)


class _Box(NamedTuple):
    left: float
    right: float
    top: float
    bottom: float

    def covers(self, other: "_Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def _free_place(label: str, x: float, y: float, taken: Sequence[_Box]) -> tuple[tuple[float, float], _Box]:
    """Return a position for a dot's label where it covers nothing; if there is none, to the right of the dot."""
    width = 7.2 * len(label)
    starts = [(x + 11, y + 4), (x - 11 - width, y + 4), (x - width / 2, y - 11), (x - width / 2, y + 19)]
    boxes = [_Box(left, left + width, bottom - 11.0, bottom + 3.0) for left, bottom in starts]
    for start, box in zip(starts, boxes, strict=True):
        inside = box.left >= _LEFT and box.right <= _WIDTH
        if inside and not any(box.covers(other) for other in taken):
            return start, box
    return starts[0], boxes[0]


class _Axis:
    """Maps values to positions on the page and provides round numbers for the ticks."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, margin: float = 0.0, powers: bool = False
    ) -> None:
        span = (high - low) or abs(high) or 1.0
        self.low, self.high = low - margin * span, high + margin * span
        if self.high <= self.low:
            self.high = self.low + span
        self.start, self.end = start, end
        self.powers = powers
        """Whether values are decimal logarithms, so that ticks are at 1, 2, 5, 10, 20, ..."""

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.powers:
            exponents = range(math.floor(self.low), math.ceil(self.high) + 1)
            good = [exponent + math.log10(digit) for exponent in exponents for digit in (1, 2, 5)]
            return [value for value in good if self.low <= value <= self.high]
        rough = (self.high - self.low) / 5.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step for step in (power, 2.0 * power, 5.0 * power, 10.0 * power) if step >= rough)
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _grid(
    across: _Axis, up: _Axis, show_x: Callable[[float], str], show_y: Callable[[float], str], caption: str
) -> str:
    parts = []
    for tick in up.ticks():
        y = up(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{across.end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 6, y + 4, show_y(tick), "tick", ' text-anchor="end"'))
    for tick in across.ticks():
        parts.append(_text(across(tick), _HEIGHT - _BOTTOM + 16, show_x(tick), "tick", ' text-anchor="middle"'))
    parts.append(_text((_LEFT + across.end) / 2, _HEIGHT - 3, caption, "tick", ' text-anchor="middle"'))
    return "".join(parts)


def _spread(places: Sequence[float]) -> list[float]:
    """Move labels apart until none overlaps another, keeping their order."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    above = -math.inf
    for index in order:
        above = moved[index] = max(moved[index], above + _LABEL_GAP)
    below = _HEIGHT - _BOTTOM + _LABEL_GAP
    for index in reversed(order):
        below = moved[index] = min(moved[index], below - _LABEL_GAP)
    return moved


def _path(places: Sequence[tuple[float, float]]) -> str:
    step = max(1, len(places) // 400)
    kept = [*places[:-1:step], places[-1]] if step > 1 else places
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept)


def _text(x: float, y: float, text: str, style: str, more: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'


def _short(label: str) -> str:
    """Return a label that fits next to a chart; the curve's tooltip shows the full text."""
    return label if len(label) <= 17 else f"{label[:16]}…"


def _svg(title: str, body: Sequence[str]) -> str:
    name = escape(title)
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{name}">{"".join(body)}</svg>'
