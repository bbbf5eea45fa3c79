"""Draws the plots of RESULTS.md: the same file from the same data."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from statistics import median

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from .report import MEGABYTE, rates

PLOTS = pathlib.Path(__file__).with_name("plots")
# Okabe and Ito's colours, which most people can tell apart.
COLOURS = ["#999999", "#000000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"]


def draw(sections: dict[str, dict]) -> None:
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "latchkey",
            "font.family": "sans-serif",
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
        }
    )
    PLOTS.mkdir(exist_ok=True)
    for name, data in sections.items():
        if name in DRAWN:
            DRAWN[name](data)


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def spreads(samples: Iterable[list[float]]) -> tuple[list[float], list[list[float]]]:
    """The medians, and how far the lowest and the highest are from them."""
    samples = list(samples)
    below = [median(values) - min(values) for values in samples]
    above = [max(values) - median(values) for values in samples]
    return [median(values) for values in samples], [below, above]


def bars(axes: plt.Axes, series: dict[str, dict[str, list[float]]], colours: list[str]) -> None:
    """Groups of bars, each from the median, with whiskers from the lowest to the highest."""
    labels = list(dict.fromkeys(label for values in series.values() for label in values))
    width = 0.8 / len(series)
    for place, ((name, values), colour) in enumerate(zip(series.items(), colours, strict=False)):
        at = [labels.index(label) - 0.4 + width * (place + 0.5) for label in values]
        heights, beyond = spreads(values.values())
        axes.bar(at, heights, width, label=name, color=colour)
        axes.errorbar(at, heights, beyond, fmt="none", ecolor="#444444", elinewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))


def series_of(cells: list[dict]) -> dict[str, dict[str, list[float]]]:
    series: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        series.setdefault(cell["contender"], {})[str(cell["connections"])] = rates(cell)
    return series


def reads(data: dict) -> None:
    for engine in ("SQLite", "Postgres"):
        figure, (rest, grpc) = plt.subplots(
            1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=[3, 2]
        )
        for axes, edge, unit in ((rest, "REST", "connections"), (grpc, "gRPC", "calls at a time")):
            cells = [cell for cell in data["cells"] if cell["group"] == f"{engine}, {edge}"]
            series = series_of([cell for cell in cells if "," not in cell["contender"]])
            names = ["bare read", "static", "HS256", "RS256", "ES256", "EdDSA"]
            colours = dict(zip(names, COLOURS, strict=False))
            bars(axes, series, [colours[name] for name in series])
            axes.set_title(f"{engine}, {edge}")
            axes.set_xlabel(unit)
            axes.legend(frameon=False, fontsize="small")
        rest.set_ylabel("requests/s")
        save(figure, f"reads-{engine.lower()}")


def logins(data: dict) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    series = {}
    for name, values in series_of(data["cells"]).items():
        # All at the same places, in the order of their numbers.
        series[name] = dict(sorted(values.items(), key=lambda item: int(item[0])))
    bars(axes, series, COLOURS[2::2])
    axes.set_xlabel("connections")
    axes.set_ylabel("logins/s")
    axes.legend(frameon=False)
    save(figure, "logins")


def isolation(data: dict) -> None:
    cells = {(cell["group"], cell["contender"]): cell for cell in data["cells"]}
    targets = list(dict.fromkeys(name.rpartition(", ")[0] for _, name in cells))
    targets = [target for target in targets if target.startswith("reads")]
    figure, all_axes = plt.subplots(
        1, len(targets), figsize=(11, 5), layout="constrained", sharey=True, squeeze=False
    )
    for axes, target in zip(all_axes[0], targets, strict=True):
        series: dict[str, dict[str, list[float]]] = {"idle": {}, "saturated": {}}
        for setup in data["logins"]:
            for state, values in series.items():
                results = cells[setup, f"{target}, {state}"]["results"]
                values[setup.replace(", ", ",\n")] = [result["p99"] / 1e3 for result in results]
        bars(axes, series, [COLOURS[0], COLOURS[6]])
        axes.set_title(target[0].upper() + target[1:])
        axes.tick_params(axis="x", labelsize="x-small")
        axes.legend(frameon=False, title="logins")
    all_axes[0][0].set_ylabel("p99, ms")
    save(figure, "isolation")


def scale(data: dict) -> None:
    groups = list(dict.fromkeys(cell["group"] for cell in data["cells"]))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for group, colour in zip(groups, COLOURS[2:], strict=False):
        cells = [cell for cell in data["cells"] if cell["group"] == group]
        counts = [int(cell["contender"].split()[0].replace(",", "")) for cell in cells]
        middle, beyond = spreads(map(rates, cells))
        axes.errorbar(counts, middle, beyond, marker="o", capsize=3, label=group, color=colour)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("accounts")
    axes.set_ylabel("requests/s")
    axes.legend(frameon=False)
    save(figure, "scale")


def soak(data: dict) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    minutes = [sample["at"] / 60 for sample in data["samples"]]
    for name, colour in zip(data["before"], COLOURS[2::3], strict=False):
        memory = [sample[name] / MEGABYTE for sample in data["samples"]]
        axes.plot(minutes, memory, label=name, color=colour)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MB")
    axes.legend(frameon=False)
    save(figure, "soak")


DRAWN = {section.__name__: section for section in (reads, logins, isolation, scale, soak)}
