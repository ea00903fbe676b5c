"""Draws the pictures of reports with matplotlib, without a screen: each as SVG and as PNG."""
# SPDX-License-Identifier: Apache-2.0

import io
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gshard_mt.report.page import Picture

# Okabe and Ito's colors, which can be told apart with any color vision.
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#767676"
BUCKETS = {"high": (BLUE, "o"), "mid": (GREEN, "s"), "low": (RED, "^")}
SERIES = ((BLUE, "o"), (ORANGE, "D"))
RUNS = (*SERIES, (GREEN, "s"), (RED, "^"), ("#cc79a7", "v"), ("#56b4e9", "P"), ("#000000", "X"))

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "image.interpolation": "nearest",
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "svg.hashsalt": "gshard-mt",  # equal pictures are equal files
    "text.parse_math": False,
}
_styled = matplotlib.rc_context(_STYLE)  # used as a decorator
MIN_BLEU = 5.0  # the axis ends at or above it
_COUNT = "{x:,.0f}"  # 10,000
_LETTER = 0.075  # width of a letter of a label, in inches
_MANY = 40  # with more languages, rows are narrow and the axis is repeated on top


def _percent(share: float, _: int) -> str:
    return f"{100 * share:.4g}%"


@_styled
def by_size(rows: Sequence[tuple[str, int, str]], bleu: Sequence[tuple[float, ...]]) -> Picture:
    """Draws BLEU with its interval against training pairs: one dot per language, most on the left.

    `rows` are code, training pairs and bucket; `bleu` is the score and the ends of its interval.
    """
    figure, axes = _canvas(10.5, 4.4, left=0.6, top=0.4)
    sizes = np.array([size for _, size, _ in rows], float)
    means, lows, highs = np.array(bleu, float).T
    axes.vlines(sizes, lows, highs, color="#cccccc", linewidth=1.5, zorder=1)
    for bucket, (color, marker) in BUCKETS.items():
        if own := [index for index, row in enumerate(rows) if row[2] == bucket]:
            axes.plot(sizes[own], means[own], marker, color=color, label=bucket)
    _size_axis(axes, sizes)
    axes.set_ylabel("BLEU")
    axes.set_ylim(0, max(MIN_BLEU, 1.05 * highs.max()))  # else small differences look large
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    _name_dots(axes, [code for code, _, _ in rows], sizes, means)
    return _render(figure)


@_styled
def differences(
    labels: Sequence[str], deltas: Sequence[float], are_significant: Sequence[bool]
) -> Picture:
    """Draws the difference of each language as a bar; significant ones are dark and starred."""
    figure, axes = _rows_canvas(labels, width=5.8)
    both = list(zip(deltas, are_significant, strict=True))
    colors = [(BLUE if delta >= 0 else RED, 1.0 if is_sure else 0.3) for delta, is_sure in both]
    bars = axes.barh(range(len(labels)), deltas, height=0.7, color=colors)
    numbers = [f"{delta:+.1f}{' *' if is_sure else ''}" for delta, is_sure in both]
    axes.bar_label(bars, numbers, padding=3, fontsize=_font_size(labels))
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_xlim(*_widened(axes.get_xlim()))
    axes.set_xlabel("BLEU above the baseline's")
    return _render(figure)


@_styled
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    dots: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    step: int,
    unit: str,
) -> Picture:
    """Draws values by step, those in `dots` with markers; a dashed line marks the checkpoint."""
    figure, axes = _canvas(10.5, 3.8, left=0.6, top=0.4)
    for (name, (steps, values)), color in zip(lines.items(), (ORANGE, BLUE), strict=False):
        marker = "." if len(steps) == 1 else ""
        axes.plot(steps, values, color=color, marker=marker, linewidth=1.2, label=name)
    for name, (steps, values) in dots.items():
        axes.plot(steps, values, "o-", color=RED, linewidth=1.2, label=name)
    axes.axvline(step, color=GREY, linestyle="--", linewidth=0.9, label=f"step {step:,}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(_COUNT)
    axes.set(xlabel="step", ylabel=unit)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return _render(figure)


@_styled
def learning_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """Draws one line per run: the mean dev nll by the target tokens trained on."""
    figure, axes = _canvas(10.5, 4.4, left=0.6, top=_legend_height(curves))
    for (name, curve), (color, marker) in zip(curves.items(), _endless(RUNS), strict=False):
        axes.plot(*zip(*curve, strict=True), f"-{marker}", color=color, linewidth=1.2, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(_COUNT)
    axes.set(xlabel="target tokens", ylabel="dev nll, nats per target token")
    _legend_above(axes)
    return _render(figure)


@_styled
def gains(sizes: Sequence[int], series: Mapping[str, Sequence[float]], label: str) -> Picture:
    """Draws gains against training pairs: one dot per language and run, most pairs on the left."""
    figure, axes = _canvas(10.5, 4.4, left=0.6, top=_legend_height(series))
    others = itertools.islice(_endless(RUNS), 1, None)  # the same colors as in learning curves
    for (name, values), (color, marker) in zip(series.items(), others, strict=False):
        axes.plot(sizes, values, marker, color=color, label=name, alpha=0.8)
    axes.axhline(0, color=GREY, linewidth=0.8)
    _size_axis(axes, np.array(sizes, float))
    axes.set_ylabel(label)
    axes.set_ylim(*_widened(axes.get_ylim()))
    _legend_above(axes)
    return _render(figure)


@_styled
def dots(
    labels: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    unit: str,
    is_share: bool = False,
    is_log: bool = False,
) -> Picture:
    """Draws a row per language with a dot per series, in panels with these titles.

    Shares, fractions of 1, are percentages; those on a logarithmic axis are all above 0.
    """
    width, top = (5.4, 0.35) if len(panels) == 1 else (7.0, 0.5)
    figure, *all_axes = _rows_canvas(labels, width, len(panels), top)
    rows = np.arange(len(labels))
    everything = np.array([list(series.values()) for series in panels.values()], float)
    for axes, (title, series) in zip(all_axes, panels.items(), strict=True):
        ends = np.array(list(series.values()), float)
        if len(series) > 1:
            axes.hlines(rows, ends.min(axis=0), ends.max(axis=0), color="#cccccc")
        for (name, values), (color, marker) in zip(series.items(), SERIES, strict=False):
            axes.plot(values, rows, marker, color=color, label=name, clip_on=False)
        if is_log:
            _make_log(axes, ends, _percent, num_labels=6)
        elif is_share:
            axes.set_xlim(0, 1.04 * np.nanmax(everything, initial=0.01))
            axes.xaxis.set_major_formatter(_percent)
        if len(panels) > 1:
            axes.set_title(title, pad=20 if len(labels) > _MANY else 6)
        axes.set_xlabel(unit)
    if len(all_axes[0].get_lines()) > 1:
        handles = all_axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="upper left", ncols=2, borderpad=0)
    return _render(figure)


@_styled
def heat_map(labels: Sequence[str], shares_XE: np.ndarray, largest: float) -> Picture:
    """Draws shares from 0 to `largest` by language and expert; NaN is grey."""
    num_experts = shares_XE.shape[1]
    cells = min(9.0, max(2.6, 0.36 * num_experts))
    figure, axes = _rows_canvas(labels, _label_width(labels) + cells + 0.9, right=0.8)
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="#d0d0d0")
    shares = np.ma.masked_invalid(shares_XE)
    image = axes.imshow(shares, colors, vmin=0, vmax=largest, aspect="auto")
    axes.xaxis.set_major_locator(MaxNLocator(min(16, num_experts), integer=True))
    axes.set_xlabel("expert")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    box = axes.get_position()
    height = min(box.height, 2.4 / figure.get_figheight())
    gap = 0.12 / figure.get_figwidth()
    bar_axes = figure.add_axes((box.x1 + gap, box.y1 - height, gap, height))
    figure.colorbar(image, cax=bar_axes)
    bar_axes.yaxis.set_major_formatter(_percent)
    bar_axes.spines[:].set_visible(False)
    return _render(figure)


def _widened(ends: tuple[float, float]) -> tuple[float, float]:
    """Returns the ends of an axis of differences in BLEU, which shows at least 1 on both sides."""
    return min(ends[0], -1.0), max(ends[1], 1.0)


def _canvas(width: float, height: float, left: float, top: float) -> tuple[Figure, Axes]:
    """Returns a figure with one pair of axes; sizes and margins are in inches."""
    figure = Figure((width, height))
    bottom = 0.5
    box = (left / width, bottom / height, 1 - (left + 0.15) / width, 1 - (bottom + top) / height)
    return figure, figure.add_axes(box)


_LEGEND_COLUMNS = 4


def _legend_height(names: Collection[str]) -> float:
    return 0.15 + 0.2 * -(-len(names) // _LEGEND_COLUMNS)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=_LEGEND_COLUMNS)


def _endless(series: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields colors and markers forever; each round pairs them differently."""
    for shift in itertools.count():
        for index, (color, _) in enumerate(series):
            yield color, series[(index + shift) % len(series)][1]


def _size_axis(axes: Axes, sizes: np.ndarray) -> None:
    """Makes the x axis training pairs, logarithmic, from the most to the fewest."""
    if sizes.min() > 0:
        _make_log(axes, sizes, _COUNT, num_labels=9)
    else:  # some language was never trained on
        axes.set_xscale("symlog", linthresh=max(1.0, min(sizes[sizes > 0], default=1.0)))
        axes.xaxis.set_major_formatter(_COUNT)
    axes.invert_xaxis()
    axes.margins(0.04, 0.08)
    axes.set_xlabel("training pairs")


def _rows_canvas(
    labels: Sequence[str], width: float, num_panels: int = 1, top: float = 0.1, right: float = 0.25
) -> tuple:
    """Returns a figure and its axes; rows are languages, the first one on top."""
    is_many = len(labels) > _MANY
    left, bottom, gap = _label_width(labels), 0.5, 0.25
    top += 0.25 if is_many else 0.0
    height = bottom + top + max(0.6, len(labels) * (0.15 if is_many else 0.21))
    figure = Figure((width, height))
    low, tall = bottom / height, 1 - (bottom + top) / height
    panel = (width - left - right - gap * (num_panels - 1)) / num_panels
    all_axes = []
    for index in range(num_panels):
        box = ((left + index * (panel + gap)) / width, low, panel / width, tall)
        axes = figure.add_axes(box)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), labels if index == 0 else [""] * len(labels))
        axes.tick_params(axis="y", length=0, labelsize=_font_size(labels))
        axes.tick_params(axis="x", labelsize=8, top=is_many, labeltop=is_many)
        all_axes.append(axes)
    return figure, *all_axes


def _font_size(labels: Sequence[str]) -> float:
    return 7 if len(labels) > _MANY else 9


def _label_width(labels: Sequence[str]) -> float:
    return 0.2 + _LETTER * max(map(len, labels)) * _font_size(labels) / 9


def _make_log(axes: Axes, values: np.ndarray, formatter: Any, num_labels: int) -> None:
    """Makes the x axis logarithmic, labeled at 1, 2, 5 or 1, 3 of a decade if they fit."""
    decades = max(np.log10(np.nanmax(values) / np.nanmin(values)), 0.5)
    digits = next((each for each in ((1, 2, 5), (1, 3)) if len(each) * decades < num_labels), (1,))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=digits, numticks=num_labels + 1))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_locator(NullLocator())


def _name_dots(axes: Axes, names: Sequence[str], x: np.ndarray, y: np.ndarray) -> None:
    """Writes names next to dots, in order, wherever there is no other name or dot."""
    size = 8
    points = axes.transData.transform(np.stack([x, y], axis=1)) * 72 / axes.figure.dpi
    taken = [(left - 2, low - 2, left + 2, low + 2) for left, low in points]
    for name, (left, low), dot_x, dot_y in zip(names, points, x, y, strict=True):
        width = 0.62 * size * len(name)
        for dx, dy in ((4, 2), (4, -9), (-width - 4, 2), (-width - 4, -9)):
            box = (left + dx, low + dy, left + dx + width, low + dy + size)
            if not any(_overlap(box, other) for other in taken):
                offset = {"xytext": (dx, dy), "textcoords": "offset points"}
                axes.annotate(name, (dot_x, dot_y), fontsize=size, **offset)
                taken.append(box)
                break


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(first[i] < second[i + 2] and second[i] < first[i + 2] for i in (0, 1))


def _render(figure: Figure) -> Picture:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", dpi=192, metadata={"Date": None})
    figure.savefig(png, format="png", dpi=150)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Picture(svg.getvalue(), png.getvalue(), width, height)
