"""The course of a run as one picture: training loss, learning rate and validation mIoU."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danet_lightning.disk.writing import write_content
from danet_lightning.pictures.confusion import rendered
from danet_lightning.runs.reading import series

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(metrics: str | Path, picture: str | Path) -> None:
    """Draw training loss, learning rate and validation mIoU against the optimizer step.

    A legend in each half names its lines.

    Args:
        metrics: `metrics.csv` of a run folder; what is missing stays empty.
        picture: The PNG to write.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    values = series(Path(metrics))
    epochs = values.pop("epoch", {})
    step = next(iter(values.get("val/miou", ())), None)  # a validation ends an epoch
    epochs_per_step = None if step is None else (epochs[step] + 1) / step
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _draw_loss(above, values.get("train/loss", {}))
    _draw_rate(above, values.get("lr/backbone", {}))
    _draw_miou(below, values.get("val/miou", {}))
    steps = [step for points in values.values() for step in points]
    below.set_xlim(0, max([1, *steps]) * 1.02)
    below.set_xlabel("optimizer step")
    if epochs_per_step:
        ratio = epochs_per_step
        scale = (lambda step: step * ratio, lambda epoch: epoch / ratio)
        above.secondary_xaxis("top", functions=scale).set_xlabel("epoch")
    write_content(Path(picture), rendered(figure, "png"))


def _draw_loss(axes: "Axes", loss: dict[int, float]) -> None:
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    if not loss:
        return
    steps, values = list(loss), np.array(list(loss.values()))
    window = len(values) // 50 * 2 + 1  # odd, or the curve would shift against its steps
    counts = np.convolve(np.ones_like(values), np.ones(window), "same")
    smooth = np.convolve(values, np.ones(window), "same") / counts
    name = "training loss"
    if window > 1:
        axes.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=0.8, label="as logged")
        name = f"mean of {window} values"
    marker = "o" if len(values) == 1 else None
    axes.plot(steps, smooth, color="tab:blue", marker=marker, label=name)
    axes.set_ylim(bottom=0)


def _draw_rate(axes: "Axes", rate: dict[int, float]) -> None:
    lines = list(axes.lines)
    if rate:
        right = axes.twinx()
        (line,) = right.plot(list(rate), list(rate.values()), ":", color="tab:gray", linewidth=1)
        line.set_label("learning rate (right)")
        lines.append(line)
        right.set_ylim(bottom=0)
        right.set_ylabel("learning rate", color="tab:gray")
        right.tick_params(axis="y", labelcolor="tab:gray")
        axes = right  # drawn last, so that its legend covers the lines
    if lines:
        axes.legend(handles=lines, loc="lower left", fontsize="small")


def _draw_miou(axes: "Axes", miou: dict[int, float]) -> None:
    axes.set_ylabel("validation mIoU")
    axes.grid(alpha=0.3)
    axes.set_ylim(0, 1)
    if not miou:
        return
    (line,) = axes.plot(list(miou), list(miou.values()), "o-", color="tab:green", markersize=4)
    line.set_label("after each validation" if len(miou) > 1 else "the only validation")
    best = max(miou, key=lambda step: miou[step])
    title = f"best: {miou[best]:.4f}, after step {best}"
    axes.axhline(miou[best], color="tab:green", linestyle="--", linewidth=0.8, label=title)
    axes.legend(loc="upper left", fontsize="small")
