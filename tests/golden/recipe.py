"""Golden weights: every tensor is a function of its name and shape alone.

Beside this file lie outputs of the authors' network and of MMSegmentation's with these weights,
for `golden_input(96, 160)`, float32, computed outside this project:

official_danet_r50.npz  multi_grid, single_grid: (3, 19, 24, 40), fused, position and channel logits
                        at image size; every fourth pixel, to stay below 500 kB
mmseg_danet_r50.npz     whole: (19, 48, 80), fused logits at image size, every second pixel;
                        heads: (4, 19, 12, 20), fused, position, channel, auxiliary at feature size
official_eval_ss.npz    scores: (19, 40, 80), the authors' MultiEvalModule with the multi-grid
                        network, every second pixel; golden_input(80, 160, seed=11), base size
                        160, crop 96, scale 1, mirrored
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def golden_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 (int64 for num_batches_tracked) values of the state-dict entry `name`."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if "gamma" in name:  # PAM's and CAM's residual scale
        return np.full(shape, 1.5)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(x)
    if name.endswith(("bias", "running_mean")):
        return 0.1 * x
    if len(shape) == 1:  # scale of a batch norm
        head = name.startswith(("head.", "decode_head."))
        return (1.0 if head else 0.4) * (1 + 0.1 * x)
    gain = 6.0 if ("query" in name or "key_" in name) else 1.0
    return gain * x * np.sqrt(2 / np.prod(shape[1:]))  # convolution, He scaled


def golden_input(height: int, width: int, seed: int = 7, batch: int = 1) -> Tensor:
    """(batch, 3, height, width) float32, standard normal."""
    values = np.random.default_rng(seed).standard_normal((batch, 3, height, width))
    return torch.from_numpy(values).float()


def golden_weights(source: str) -> dict[str, Tensor]:
    """The state dict of `official_danet_r50` or `mmseg_danet_r50`, under its own names."""
    shapes = json.loads((FOLDER / f"{source}.keys.json").read_text())
    return {
        name: torch.from_numpy(np.asarray(golden_tensor(name, tuple(shape))))
        for name, shape in shapes.items()
    }


def golden_outputs(source: str) -> dict[str, Tensor]:
    """The arrays of `<source>.npz`."""
    with np.load(FOLDER / f"{source}.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
