"""From foreign weights to a checkpoint that `evaluate`, `predict` and `load` take."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from danet_lightning.checkpoints.metadata import dataset_facts, metadata
from danet_lightning.checkpoints.saving import save_atomically
from danet_lightning.config.building import build, request_errors
from danet_lightning.data.base import DataSet
from danet_lightning.disk.names import expanded
from danet_lightning.errors import RequestError
from danet_lightning.models.foreign import Recognized, recognize
from danet_lightning.models.segmenter import normalization


def convert(config: DictConfig, run_dir: Path) -> None:
    """Write a checkpoint of foreign weights, after checking them against the data set.

    Raises:
        RequestError: The source cannot be used, or does not belong to the data set.
        RunError: The output cannot be written.
    """
    output = expanded(config.output)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    with request_errors():
        facts = dataset_facts(build(config, "dataset", DataSet))
        path = Path(config.source).expanduser()
        recognized = recognize(path, plain["multi_grid"], config.align_corners)
        _check_classes(recognized, facts["classes"])
        net = recognized.build()
    backbone = {"_target_": "danet_lightning.models.dilated_resnet", **recognized.backbone}
    model = {"_target_": "danet_lightning.models.DANet", **recognized.head, "backbone": backbone}
    described = {**{key: plain[key] for key in ("dataset", "protocol", "source")}, "model": model}
    checkpoint = {
        "state_dict": {f"net.{name}": tensor for name, tensor in net.state_dict().items()},
        "danet_lightning": metadata(described, facts | normalization(net)),
    }
    save_atomically(checkpoint, output)
    print(f"recognized  {recognized.title}: {_summary(recognized)}")
    print(f"written     {output}\nnext        danet evaluate ckpt_path={output}")


def _check_classes(recognized: Recognized, classes: list[str]) -> None:
    if recognized.num_classes is None:
        raise RequestError(
            f"source: the weights of {recognized.title} fill the backbone alone, so there is "
            "nothing to evaluate yet. Train: "
            f"backbone={recognized.backbone['name']} backbone.pretrained=..."
        )
    if recognized.num_classes != len(classes):
        raise RequestError(
            f"dataset: it has {len(classes)} classes, and these weights classify "
            f"{recognized.num_classes}. Choose the data set they were trained on."
        )


def _summary(recognized: Recognized) -> str:
    parts: dict[str, Any] = {**recognized.backbone, **recognized.head}
    return ", ".join(f"{key} {value}" for key, value in parts.items())
