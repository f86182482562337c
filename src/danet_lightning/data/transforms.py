"""Training's augmentation: a fused random scale and crop, flip, colour jitter and blur.

H, W: height and width of the given image; h, w: of the crop.
"""

import os
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network

import albumentations
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

IGNORE = 255


class Window(NamedTuple):
    """What becomes of one axis: the source pixels start..stop are resampled to `size` pixels."""

    start: int
    stop: int
    size: int


class RandomScaleCrop(albumentations.DualTransform):  # type: ignore[misc]  # is untyped
    """Scale at random, then crop at random, but read and resample only the pixels that are kept.

    Equal in distribution to resizing the whole image by a factor uniform in `scale_range` and
    cropping at a uniform position, as the authors' code does, but for the rounding of the window
    to whole source pixels. Where the scaled image is smaller than the crop it is kept whole and
    padded to the right and below.

    Args:
        crop_size: Height and width of the result.
        scale_range: Least and greatest factor on the size of the image.
        fill: Value of padded image pixels; 0 as in the authors' code.
        fill_mask: Value of padded mask pixels.
        p: Probability that albumentations applies a transform at all; 1, as batches need.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        """What albumentations checks the arguments with."""

        crop_size: tuple[PositiveInt, PositiveInt]
        scale_range: tuple[PositiveFloat, PositiveFloat]
        fill: NonNegativeInt
        fill_mask: NonNegativeInt

    def __init__(
        self,
        crop_size: tuple[int, int],
        scale_range: tuple[float, float],
        fill: int = 0,
        fill_mask: int = IGNORE,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.fill = fill
        self.fill_mask = fill_mask

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the scale and the crop's position."""
        scale = self.py_random.uniform(*self.scale_range)
        height, width = params["shape"][:2]
        return {
            "rows": self._window(height, self.crop_size[0], scale),
            "columns": self._window(width, self.crop_size[1], scale),
        }

    def apply(
        self, img: NDArray[Any], rows: Window, columns: Window, **params: Any
    ) -> NDArray[Any]:
        """Resample an image (H, W, 3) to (h, w, 3)."""
        shrinks = (
            rows.size <= rows.stop - rows.start and columns.size <= columns.stop - columns.start
        )
        # Averaging, because bilinear shrinking skips source pixels below a factor of one half.
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return self._resample(img, rows, columns, method, self.fill)

    def apply_to_mask(
        self, mask: NDArray[Any], rows: Window, columns: Window, **params: Any
    ) -> NDArray[Any]:
        """Resample a mask (H, W) to (h, w)."""
        # INTER_NEAREST takes the corner instead of the centre of what it shrinks, which moves the
        # mask against the image by up to half a pixel of the result.
        return self._resample(mask, rows, columns, cv2.INTER_NEAREST_EXACT, self.fill_mask)

    def _window(self, length: int, crop: int, scale: float) -> Window:
        scaled = max(1, round(length * scale))
        if scaled <= crop:
            return Window(0, length, scaled)
        window = min(length, max(1, round(crop / scale)))
        start = self.py_random.randint(0, length - window)
        return Window(start, start + window, crop)

    def _resample(
        self, pixels: NDArray[Any], rows: Window, columns: Window, method: int, fill: int
    ) -> NDArray[Any]:
        kept = pixels[rows.start : rows.stop, columns.start : columns.stop]
        scaled = cv2.resize(kept, (columns.size, rows.size), interpolation=method)
        below, right = self.crop_size[0] - rows.size, self.crop_size[1] - columns.size
        if below or right:
            color = (fill, fill, fill)
            scaled = cv2.copyMakeBorder(
                scaled, 0, below, 0, right, cv2.BORDER_CONSTANT, value=color
            )
        return np.asarray(scaled)


def training_transform(
    crop_size: tuple[int, int],
    scale_range: tuple[float, float],
    flip: float = 0.5,
    color_jitter: float = 0.0,
    blur: float = 0.0,
) -> albumentations.Compose:
    """Assemble the augmentation of a training sample.

    Seed it before every sample with `set_random_state` (see `SegmentationDataset`).

    Args:
        crop_size: Height and width of a training sample.
        scale_range: Least and greatest random scale.
        flip: Probability of mirroring left and right.
        color_jitter: Strength x: brightness, contrast and saturation change by a factor in
            1-x..1+x each and the hue by x/10 of its circle; 0.5 is MMSegmentation's range
            (factors 0.5..1.5, 18 degrees). 0: none.
        blur: Probability of a Gaussian blur of 0 to 1 pixels, as in the authors' code.
    """
    steps: list[Any] = [RandomScaleCrop(crop_size, scale_range)]
    if flip:
        steps.append(albumentations.HorizontalFlip(p=flip))
    if color_jitter:
        x = color_jitter
        steps.append(albumentations.ColorJitter(x, x, x, x / 10, p=1.0))
    if blur:
        steps.append(albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.0, 1.0), p=blur))
    return albumentations.Compose(steps, strict=True)
