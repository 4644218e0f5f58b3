"""Plots as HTML with inline SVG. Places are in percent, so a plot is as wide as the page leaves it and text keeps its size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup

HEIGHT = 26  # pixels of a strip


@dataclass(frozen=True)
class PlotRow:
    """Dots on a strip, with an interval behind them where there is one, and cells beside it, as many in every row of a plot.
    `kind` is a class of the style sheet."""

    name: str
    dots: Sequence[float]
    cells: Sequence[str]
    interval: tuple[float, float] | None = None
    kind: str = ""


@dataclass(frozen=True)
class Scale:
    low: float
    high: float

    def __call__(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self, most: int = 5) -> list[float]:
        """At most so many round numbers, and one, between the ends."""
        rough = (self.high - self.low) / most
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(place * step, 12) for place in range(first, last + 1)]


def plot(rows: Sequence[PlotRow], caption: str, reference: float | None = None, zero: bool = True) -> Markup:
    """A figure of rows on one scale, which begins at 0 unless told otherwise. `reference` is a line through all of them."""
    scale = _scale([value for row in rows for value in (*row.dots, *(row.interval or ()))], reference, zero)
    width = max((len(row.cells) for row in rows), default=0)
    strips = Markup("").join(_strip(row.kind, row.name, _grid(scale, reference) + _marks(row, scale), row.cells) for row in rows)
    labels = (Markup('<text x="{}" y="14">{:g}</text>').format(scale(tick), tick) for tick in scale.ticks())
    axis = _strip("axis", "", Markup("").join(labels), [""] * width)
    return Markup('<figure class="plot" style="--cells: {}"><figcaption>{}</figcaption>{}{}</figure>').format(
        width, caption, strips, axis
    )


def _strip(kind: str, name: str, inside: Markup, cells: Sequence[str]) -> Markup:
    found = Markup("").join(Markup('<span class="text">{}</span>').format(cell) for cell in cells)
    return Markup('<div class="strip {}"><span class="name">{}</span>{}{}</div>').format(kind, name, _svg(inside, HEIGHT), found)


def trend(names: Sequence[str], series: Mapping[str, Sequence[float | None]], caption: str) -> Markup:
    """Lines over names, such as days, from left to right; a value may be missing."""
    scale = _scale([value for values in series.values() for value in values if value is not None], None, True)
    across = [f"{100 * (place + 0.5) / len(names):.2f}%" for place in range(len(names))]
    up = Scale(scale.high, scale.low)  # y grows downwards
    inside = Markup("").join(_line("grid", ("0", "100%"), (up(tick), up(tick))) for tick in scale.ticks(4))
    for number, values in enumerate(series.values()):
        places = [(x, up(value)) for x, value in zip(across, values, strict=True) if value is not None]
        drawn = Markup("").join(_line("", (x, other), (y, lower)) for (x, y), (other, lower) in pairwise(places))
        dots = Markup("").join(Markup('<circle cx="{}" cy="{}" r="4"/>').format(*place) for place in places)
        inside += Markup('<g class="series-{}">{}{}</g>').format(number, drawn, dots)
    every = ceil(len(names) / 8)
    ticks = (Markup('<text x="0" y="{}" dy="-4">{:g}</text>').format(up(tick), tick) for tick in scale.ticks(4))
    days = (
        Markup('<text class="day" x="{}" y="14">{}</text>').format(*named)
        for named in zip(across[::every], names[::every], strict=True)
    )
    key = (Markup('<span class="series-{}">{}</span>').format(*named) for named in enumerate(series))
    return Markup('<figure class="trend"><figcaption>{} {}</figcaption>{}{}</figure>').format(
        caption, Markup(" ").join(key), _svg(inside + Markup("").join(ticks), 180), _svg(Markup("").join(days), 20)
    )


def _scale(values: Sequence[float], reference: float | None, zero: bool) -> Scale:
    seen = [*values, *([reference] if reference is not None else [])]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return Scale(min(low, 0.0) if zero else low - room, high + room)


def _svg(inside: Markup, height: int) -> Markup:
    return Markup('<svg width="100%" height="{}" aria-hidden="true">{}</svg>').format(height, inside)


def _line(kind: str, x: tuple[str, str], y: tuple[str, str]) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(kind, *x, *y)


def _grid(scale: Scale, reference: float | None) -> Markup:
    lines = [("grid", scale(tick)) for tick in scale.ticks()]
    lines += [("reference", scale(reference))] if reference is not None else []
    return Markup("").join(_line(kind, (x, x), ("0", "100%")) for kind, x in lines)


def _marks(row: PlotRow, scale: Scale) -> Markup:
    bar = _line("interval", (scale(row.interval[0]), scale(row.interval[1])), ("50%", "50%")) if row.interval else Markup("")
    return bar + Markup("").join(Markup('<circle cx="{}" cy="50%" r="5"/>').format(scale(dot)) for dot in row.dots)
