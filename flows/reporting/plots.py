"""Plots as rows of HTML, each a name, a strip of inline SVG and its figures in words: x is in percent, so a strip is as wide as
the page leaves it and text keeps its size."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

HEIGHT = 26  # pixels of a strip


@dataclass(frozen=True)
class PlotRow:
    """Dots on a strip, with an interval behind them where there is one. `kind` is a class of the style sheet."""

    name: str
    dots: Sequence[float]
    text: str
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
    scale = _scale(rows, reference, zero)
    strips = Markup("").join(
        Markup('<div class="strip {}"><span class="name">{}</span>{}<span class="text">{}</span></div>').format(
            row.kind, row.name, _svg(_grid(scale, reference) + _marks(row, scale)), row.text
        )
        for row in rows
    )
    return Markup('<figure class="plot"><figcaption>{}</figcaption>{}{}</figure>').format(caption, strips, _axis(scale))


def _scale(rows: Sequence[PlotRow], reference: float | None, zero: bool) -> Scale:
    seen = [value for row in rows for value in (*row.dots, *(row.interval or ()))]
    seen += [reference] if reference is not None else []
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return Scale(min(low, 0.0) if zero else low - room, high + room)


def _svg(inside: Markup) -> Markup:
    return Markup('<svg width="100%" height="{}" aria-hidden="true">{}</svg>').format(HEIGHT, inside)


def _line(kind: str, x: tuple[str, str], y: tuple[str, str]) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(kind, *x, *y)


def _grid(scale: Scale, reference: float | None) -> Markup:
    lines = [("grid", scale(tick)) for tick in scale.ticks()]
    lines += [("reference", scale(reference))] if reference is not None else []
    return Markup("").join(_line(kind, (x, x), ("0", "100%")) for kind, x in lines)


def _marks(row: PlotRow, scale: Scale) -> Markup:
    bar = _line("interval", (scale(row.interval[0]), scale(row.interval[1])), ("50%", "50%")) if row.interval else Markup("")
    return bar + Markup("").join(Markup('<circle cx="{}" cy="50%" r="5"/>').format(scale(dot)) for dot in row.dots)


def _axis(scale: Scale) -> Markup:
    labels = (Markup('<text x="{}" y="14">{:g}</text>').format(scale(tick), tick) for tick in scale.ticks())
    return Markup('<div class="strip axis"><span class="name"></span>{}<span class="text"></span></div>').format(
        _svg(Markup("").join(labels))
    )
