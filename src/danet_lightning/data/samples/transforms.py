"""Training's augmentation: a fused random scale and crop, flip, changes of color and blur.

H, W: height and width of the given image; h, w: of the crop.
"""

import os
from typing import Annotated, Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PositiveInt

from danet_lightning.data.base import IGNORE
from danet_lightning.data.samples.photometric import PhotometricDistortion
from danet_lightning.errors import checked


def _rising(scales: tuple[float, float]) -> tuple[float, float]:
    if scales[0] > scales[1]:
        raise ValueError("the smaller factor comes first")
    return scales


Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=100)]  # beyond it, a slip of the keyboard
ScaleRange = Annotated[tuple[Scale, Scale], AfterValidator(_rising)]
REDRAWS = 10  # as in MMSegmentation's RandomCrop, which takes the last one whatever it shows


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
    padded to the right and below: black, as in the authors' code, and ignored.

    Args:
        crop_size: Height and width of the result.
        scale_range: Least and greatest factor on the image's size or, if given, on `base_size`.
        base_size: Length in pixels that the scale multiplies to give the short side; the long
            side keeps its ratio. The authors' `base_size`, for images of different sizes: theirs
            is a uniform whole number and its long side truncated, ours are both rounded. None:
            the scale multiplies the image's own size.
        max_category_share: MMSegmentation's `cat_max_ratio`: until the most frequent class has
            less than this share of the crop's labelled pixels (255 is not one), the position is
            drawn again, at most 10 times. Counted before resampling, on masks of bytes. 1: off.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        scale_range: tuple[float, float],
        base_size: int | None = None,
        max_category_share: float = 1.0,
    ) -> None:
        super().__init__(p=1.0)
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.base_size = base_size
        self.max_category_share = max_category_share

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the scale and the crop's position."""
        scale = self.py_random.uniform(*self.scale_range)
        if self.base_size is not None:
            scale *= self.base_size / min(params["shape"][:2])
        rows, columns = self._windows(params["shape"], scale)
        if self.max_category_share < 1:
            for _ in range(REDRAWS):
                if self._is_mixed(data["mask"], rows, columns):
                    break
                rows, columns = self._windows(params["shape"], scale)
        return {"rows": rows, "columns": columns}

    def apply(
        self, img: NDArray[Any], rows: Window, columns: Window, **params: Any
    ) -> NDArray[Any]:
        """Resample an image (H, W, 3) to (h, w, 3)."""
        shrinks = (
            rows.size <= rows.stop - rows.start and columns.size <= columns.stop - columns.start
        )
        # Averaging, because bilinear shrinking skips source pixels below a factor of one half.
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return self._resample(img, rows, columns, method, 0)

    def apply_to_mask(
        self, mask: NDArray[Any], rows: Window, columns: Window, **params: Any
    ) -> NDArray[Any]:
        """Resample a mask (H, W) to (h, w)."""
        # INTER_NEAREST takes the corner instead of the center of what it shrinks, which moves the
        # mask against the image by up to half a pixel of the result.
        return self._resample(mask, rows, columns, cv2.INTER_NEAREST_EXACT, IGNORE)

    def _is_mixed(self, mask: NDArray[Any], rows: Window, columns: Window) -> bool:
        kept = mask[rows.start : rows.stop, columns.start : columns.stop]
        # Values from 255 on fall outside the bins; three times as fast as numpy's bincount.
        counts = cv2.calcHist([kept], [0], None, [IGNORE], [0, IGNORE])
        labelled = counts.sum(dtype=np.float64)
        return bool(labelled and counts.max() / labelled < self.max_category_share)

    def _windows(self, shape: tuple[int, ...], scale: float) -> tuple[Window, Window]:
        rows = self._window(shape[0], self.crop_size[0], scale)
        return rows, self._window(shape[1], self.crop_size[1], scale)

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


class Augmentation:
    """What becomes of an image and its labels in training; a configuration, without any state.

    Args:
        crop_size: Height and width of a training sample in pixels.
        scale_range: Least and greatest random scale.
        flip: Probability of mirroring left and right.
        color_jitter: Strength x: brightness, contrast and saturation change by a factor in
            1-x..1+x each and the hue by x/10 of its circle; 0.5 is MMSegmentation's range
            (factors 0.5..1.5, 18 degrees). 0: none.
        blur: Probability of a Gaussian blur of 0 to 1 pixels, as in the authors' code.
        base_size: Short side in pixels at scale 1, for images of different sizes; None: the
            image's own (see `RandomScaleCrop`).
        max_category_share: A crop of which one class has this share or more is placed again, up
            to 10 times; 1: never (see there too).
        photometric: Whether to change the colors as MMSegmentation does (see
            `PhotometricDistortion`), before and apart from `color_jitter`.
    """

    @checked
    def __init__(
        self,
        crop_size: tuple[PositiveInt, PositiveInt],
        scale_range: ScaleRange = (0.5, 2.0),
        flip: Share = 0.5,
        color_jitter: Share = 0.0,
        blur: Share = 0.0,
        base_size: PositiveInt | None = None,
        max_category_share: Annotated[float, Field(gt=0, le=1)] = 1.0,
        photometric: bool = False,
    ) -> None:
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.flip = flip
        self.color_jitter = color_jitter
        self.blur = blur
        self.base_size = base_size
        self.max_category_share = max_category_share
        self.photometric = photometric

    def transform(self) -> albumentations.Compose:
        """Assemble the steps; seed them before every sample by `set_random_state`."""
        steps: list[Any] = [
            RandomScaleCrop(
                self.crop_size,
                self.scale_range,
                base_size=self.base_size,
                max_category_share=self.max_category_share,
            )
        ]
        if self.flip:
            steps.append(albumentations.HorizontalFlip(p=self.flip))
        if self.photometric:
            steps.append(PhotometricDistortion())
        if self.color_jitter:
            x = self.color_jitter
            steps.append(albumentations.ColorJitter(x, x, x, x / 10, p=1.0))
        if self.blur:
            blur = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.0, 1.0), p=self.blur)
            steps.append(blur)
        return albumentations.Compose(steps, strict=True)
