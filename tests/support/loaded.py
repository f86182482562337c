"""A data set with its loaders, from one list of options."""

from inspect import signature
from typing import Any

from danet_lightning.data.base import DataSet
from danet_lightning.data.datamodule import SegmentationDataModule
from danet_lightning.data.samples.transforms import Augmentation


def loaded(kind: type[DataSet], *arguments: Any, **options: Any) -> SegmentationDataModule:
    """Build a data set, its augmentation and its data module; each takes its own options."""
    options = {"crop_size": [32, 32], "batch_size": 2, **options}

    def own(target: Any) -> dict[str, Any]:
        return {key: options.pop(key) for key in signature(target).parameters if key in options}

    dataset = kind(*arguments, **own(kind))
    augmentation = Augmentation(**own(Augmentation))
    module = SegmentationDataModule(dataset, augmentation, **own(SegmentationDataModule))
    assert not options, options
    return module


def again(data: SegmentationDataModule) -> SegmentationDataModule:
    """The same data set, whose files have not been looked for yet."""
    return SegmentationDataModule(data.dataset)
