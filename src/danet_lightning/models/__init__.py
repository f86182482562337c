"""DANet and its parts, plain `torch.nn` modules."""

from danet_lightning.models.attention import ChannelAttention, PositionAttention
from danet_lightning.models.backbone import DilatedResNet, dilated_resnet
from danet_lightning.models.danet import DANet
from danet_lightning.models.foreign import export_weights, import_weights
from danet_lightning.models.segmenter import Segmenter

__all__ = [
    "ChannelAttention",
    "DANet",
    "DilatedResNet",
    "PositionAttention",
    "Segmenter",
    "dilated_resnet",
    "export_weights",
    "import_weights",
]
