"""Draws curves of Dice against clicks, with confidence bands, as Plotly figures."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

from synthfm_bench.analysis.aggregate import LeaderboardRow

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000", "#555555")
"""Okabe and Ito's palette for colour-blind readers, with pale colours darkened for lines."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def colours(rows: Iterable[LeaderboardRow]) -> dict[str, str]:
    """Return a colour for each segmenter, the same in all charts."""
    return dict(zip(sorted({row.segmenter for row in rows}), cycle(COLOURS), strict=False))


def curves(group: Sequence[LeaderboardRow], colour: dict[str, str]) -> dict[str, Any]:
    """Return the figure of one group, ``{"data": ..., "layout": ...}``, with a line and a band for each row.

    Segmenters have different colours, clickers different dashes. Bands are 95 % intervals of the means.
    """
    dashes = dict(zip(dict.fromkeys(row.clicker for row in group), cycle(_DASHES), strict=False))
    traces: list[dict[str, Any]] = []
    for row in group:
        # The line of a row, behind it the band of its interval
        points = row.curve
        clicks = list(range(1, len(points) + 1))
        name = f"{row.segmenter}, {row.clicker}"
        line = {"color": colour[row.segmenter], "dash": dashes[row.clicker], "width": 2}
        low, high = [point.low for point in points], [point.high for point in points]
        if None not in low:
            traces.append(
                {
                    "x": clicks + clicks[::-1],
                    "y": _rounded(high) + _rounded(low)[::-1],
                    "fill": "toself",
                    "fillcolor": colour[row.segmenter],
                    "opacity": 0.13,
                    "line": {"width": 0},
                    "mode": "lines",
                    "hoverinfo": "skip",
                    "legendgroup": name,
                    "showlegend": False,
                }
            )
        traces.append(
            {
                "x": clicks,
                "y": _rounded([point.mean for point in points]),
                "name": name,
                "legendgroup": name,
                "mode": "lines+markers",
                "line": line,
                "marker": {"size": 6},
                "hovertemplate": "%{fullData.name}<br>click %{x}: Dice %{y:.3f}<extra></extra>",
            }
        )
    layout = {
        "margin": {"l": 44, "r": 8, "t": 8, "b": 40},
        "height": 380,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "xaxis": {
            "title": {"text": "clicks"},
            "dtick": max(1, group[0].budget // 10),
            "gridcolor": "#eee",
            "zeroline": False,
        },
        "yaxis": {"title": {"text": "Dice"}, "rangemode": "tozero", "gridcolor": "#eee"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "plot_bgcolor": "#fff",
        "paper_bgcolor": "#fff",
    }
    return {"data": traces, "layout": layout}


def _rounded(values: Iterable[float | None]) -> list[float]:
    return [round(value, 5) for value in values if value is not None]
