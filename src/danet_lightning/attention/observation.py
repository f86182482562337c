"""What a network attends to in one image: the maps of its attention modules, and what they change.

K: classes, C: channels of the features, H, W: size of the image that the network sees, h, w: size
of the features, N = h * w positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from danet_lightning.data.base import Pixels
from danet_lightning.errors import RequestError
from danet_lightning.models.maps import ChannelMap, Mapped, PositionMap
from danet_lightning.models.segmenter import Segmenter, normalize
from danet_lightning.predict.writing import seen_size

TITLES = {PositionMap: "Position attention", ChannelMap: "Channel attention"}


@dataclass(frozen=True, eq=False)
class Branch:
    """What one attention module does in one image.

    Attributes:
        name: Of the module in its network.
        map: What it attends to.
        gamma: Its learned weight; None where the module has none.
        before: (C, h, w), its input.
        after: (C, h, w), its output.
        without: (H, W) class ids that the network predicts when the module passes its input on.
    """

    name: str
    map: PositionMap | ChannelMap
    gamma: float | None
    before: Tensor
    after: Tensor
    without: Pixels

    @property
    def title(self) -> str:
        """Return what a reader calls the module."""
        return TITLES[type(self.map)]

    @property
    def effect(self) -> float:
        """Return the norm of what is added to the features over the norm of the features."""
        return float((self.after - self.before).norm() / self.before.norm().clamp(min=1e-12))


@dataclass(frozen=True, eq=False)
class Observation:
    """All that is seen in one image.

    Attributes:
        original_size: (rows, columns) of the image as it was before it was reduced.
        image: (H, W, 3) RGB.
        label: (H, W) class ids, 255 where ignored; None: not known.
        prediction: (H, W) class ids.
        branches: One for each attention module.
    """

    original_size: tuple[int, int]
    image: Pixels
    label: Pixels | None
    prediction: Pixels
    branches: list[Branch]

    def present(self) -> list[int]:
        """Return the class ids in all masks, in order; 255 among them where a label ignores
        pixels.
        """
        masks = [self.prediction, *(branch.without for branch in self.branches)]
        if self.label is not None:
            masks.append(self.label)
        return sorted({index for mask in masks for index in np.unique(mask).tolist()})


def mapped_modules(net: nn.Module) -> dict[str, Any]:
    """Find the attention modules of a network that tell their map.

    Raises:
        RequestError: There is none.
    """
    modules = {name: module for name, module in net.named_modules() if isinstance(module, Mapped)}
    if not modules:
        raise RequestError(
            f"ckpt_path: this {type(net).__name__} has no attention to look at: no module of it "
            "has the method attention_map. Choose a checkpoint of danet, ccnet or nonlocal with "
            "its attention on; a module of yours joins by the protocol Mapped in models/maps.py."
        )
    return modules


@torch.inference_mode()
def observe(
    segmenter: Segmenter,
    image: Pixels,
    label: Pixels | None = None,
    max_side: int | None = 2048,
) -> Observation:
    """Let a network see an image in one pass, then once more without each of its attentions.

    Args:
        segmenter: On the device where it computes.
        image: (rows, columns, 3) RGB.
        label: (rows, columns) class ids.
        max_side: H and W at most, as in `predict`; a larger image is reduced. None: never.

    Raises:
        RequestError: The network has no map to tell, or is one that is not described by `Mapped`.
    """
    modules = mapped_modules(segmenter.net)
    backbone = getattr(segmenter.net, "backbone", segmenter.net)
    original_size = image.shape[:2]
    image, label = _reduced(image, label, max_side)
    with _recorded([backbone, *modules.values()]) as calls:
        prediction = _predict(segmenter, image)
    branches = []
    for name, module in modules.items():
        if not calls[module]:
            continue
        before, after = calls[module][-1]
        if before.shape != after.shape:
            raise RequestError(
                f"{name}: it turns features of {tuple(before.shape)} into {tuple(after.shape)}. A "
                "module with an attention_map adds to its input, and keeps the shape."
            )
        answers: dict[nn.Module, Callable[[Any], Any]] = {module: lambda x: x}
        if len(calls[backbone]) == 1 and module not in backbone.modules():
            # most of the work of a pass, and the same in all
            answers[backbone] = lambda _: calls[backbone][0][1]
        with _answering(answers):
            without = _predict(segmenter, image)
        branches.append(
            Branch(
                name,
                module.attention_map(before),
                float(module.gamma) if hasattr(module, "gamma") else None,
                before[0].float().cpu(),
                after[0].float().cpu(),
                without,
            )
        )
    return Observation(original_size, image, label, prediction, branches)


def at_positions(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the class of each position: that of the pixel in its middle. (H, W) -> (h, w)."""
    rows, columns = (
        (np.arange(small) * 2 + 1) * large // (2 * small)
        for small, large in zip(size, mask.shape, strict=True)
    )
    picked: NDArray[np.uint8] = mask[np.ix_(rows, columns)]
    return picked


def position_of(point: tuple[int, int], shape: tuple[int, ...], size: tuple[int, int]) -> int:
    """Return the number of the position in which a pixel of an image of (H, W) lies."""
    row, column = (at * small // large for at, small, large in zip(point, size, shape, strict=True))
    return row * size[1] + column


def _predict(segmenter: Segmenter, image: Pixels) -> Pixels:
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]  # (1, 3, H, W)
    batch = batch.to(next(segmenter.net.parameters(), batch).device)
    logits = segmenter.net.predict_logits(normalize(batch, segmenter.mean, segmenter.std))
    ids: Pixels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
    return ids


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Any]]]:
    """Keep (input, output) of each call of the modules."""
    calls: dict[nn.Module, list[Any]] = {module: [] for module in modules}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output: calls[module].append((inputs[0], output))
        )
        for module in modules
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _answering(answers: Mapping[nn.Module, Callable[[Any], Any]]) -> Iterator[None]:
    """Let modules return recorded outputs instead of computing their own."""
    for module, answer in answers.items():
        module.forward = answer  # of the object; that of its class comes back
    try:
        yield
    finally:
        for module in answers:
            del module.forward


def _reduced(
    image: Pixels, label: Pixels | None, max_side: int | None
) -> tuple[Pixels, Pixels | None]:
    size = seen_size(image.shape[1], image.shape[0], max_side)
    if size == (image.shape[1], image.shape[0]):
        return image, label
    smaller = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    if label is not None:
        label = np.array(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return smaller, label
