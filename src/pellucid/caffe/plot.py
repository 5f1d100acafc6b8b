"""Curves of a training's log: each net output over the iterations, training beside testing."""

from __future__ import annotations

from pathlib import Path

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.parse_log import FIXED, parse_file

__all__ = ["plot"]


def plot(logs: list[str], target: str | Path) -> None:
    """Draw the curves of some logs into one picture.

    Args:
        logs: files; more than one to compare trainings.
        target: the picture; its suffix says of which kind.

    Raises:
        CaffeError: a log cannot be read, or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "plots need matplotlib, which is not installed: pip install 'pellucid[plots]'"
        raise CaffeError(msg) from error
    tables = {log: parse_file(log) for log in logs}
    rows = [row for both in tables.values() for table in both for row in table]
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in FIXED]
    figure = Figure(figsize=(7, 3 * len(names)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), squeeze=False)[:, 0], names, strict=True):
        for log, both in tables.items():
            for table, kind, style in zip(both, ("train", "test"), ("-", "o--"), strict=True):
                shown = [row for row in table if name in row]
                if shown:
                    label = f"{Path(log).name}: {kind}" if len(logs) > 1 else kind
                    iterations = [row["NumIters"] for row in shown]
                    axes.plot(iterations, [row[name] for row in shown], style, label=label)
        axes.set_xlabel("iteration")
        axes.set_ylabel(name)
        axes.legend()
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(target)
