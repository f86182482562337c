"""Run folders as a training leaves them, written in a moment."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CLASSES = ("road", "sky", "car")
CONFIG: dict[str, Any] = {
    "seed": 0, "run_dir": ".", "optimizer": {"lr": 0.01}, "model": {"pam": True, "cam": True},
    "dataset": {"_target_": "danet_lightning.data.scenes.Scenes"},
}  # fmt: skip
PROTOCOL = {"name": "whole", "scales": [1.0], "dataset": "Scenes", "split": "val", "images": 4}


def write_run(
    folder: Path,
    miou: float | None,
    classes: tuple[str, ...] = CLASSES,
    results: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    **keys: Any,
) -> Path:
    """Write a run.

    Args:
        folder: Of the run.
        miou: Its result; None: it has none.
        classes: Of its data.
        results: What results.json has beside, or instead of, the usual.
        choices: Of config groups, as Hydra records and the command line has them.
        keys: Of its configuration, with __ for each dot.
    """
    choices = choices or {}
    (folder / ".hydra").mkdir(parents=True)
    config = copy.deepcopy(CONFIG)
    config["run_dir"] = str(folder)
    for key, value in keys.items():
        *nodes, last = key.split("__")
        node = config
        for name in nodes:
            node = node.setdefault(name, {})
        node[last] = value
    # what is composed of the same values again, as in conf/train.yaml
    config |= {"module": {"seed": config["seed"], "optimizer": config["optimizer"]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
    chosen = {"hydra": {"runtime": {"choices": choices | {"hydra/help": "default"}}}}
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(chosen))
    typed = [f"{key}={value}" for key, value in choices.items()]
    typed += [f"{key.replace('__', '.')}={value}" for key, value in keys.items()]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    rows = [f"{step},{5 / (step + 1)},,0.01" for step in range(9, 100, 10)]
    if miou is not None:
        rows.append(f"99,,{miou},")
        (folder / "results.json").write_text(json.dumps(_results(miou, classes) | (results or {})))
    text = "step,train/loss,val/miou,gamma/pam\n" + "\n".join(rows) + "\n"
    (folder / "metrics.csv").write_text(text)
    return folder


def _results(miou: float, classes: tuple[str, ...]) -> dict[str, Any]:
    count = len(classes)
    matrix = np.full((count, count), 5) + np.diag(np.arange(90, 90 + count))
    return {
        "miou": miou, "pixel_accuracy": 0.9, "class_iou": dict.fromkeys(classes, miou),
        "confusion_matrix": matrix.tolist(), "partial": False, "protocol": PROTOCOL,
        "data": {"val": "28f1b8e5e2132888"}, "git_commit": "62c699838c", "parameters": 3159283,
        "versions": {"torch": "2.15.0"}, "machine": {"host": "here", "device": "CPU"},
        "gammas": {"pam": 0.2, "cam": -0.1},
        "cost": {"seconds_per_step": 0.5, "images_per_second": 16.0, "data_share": 0.1,
                 "peak_memory_gib": 1.5},
    }  # fmt: skip
