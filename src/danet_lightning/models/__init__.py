"""DANet, its rivals and their parts, plain `torch.nn` modules."""

from danet_lightning.models.attention import ChannelAttention, PositionAttention
from danet_lightning.models.backbone import DilatedResNet, dilated_resnet
from danet_lightning.models.ccnet import CCNet
from danet_lightning.models.danet import DANet
from danet_lightning.models.deeplabv3 import DeepLabV3
from danet_lightning.models.foreign import export_weights, import_weights
from danet_lightning.models.non_local import NonLocalNet
from danet_lightning.models.pspnet import PSPNet
from danet_lightning.models.segmenter import Segmenter
from danet_lightning.models.timm_backbone import TimmBackbone

__all__ = [
    "CCNet",
    "ChannelAttention",
    "DANet",
    "DeepLabV3",
    "DilatedResNet",
    "NonLocalNet",
    "PSPNet",
    "PositionAttention",
    "Segmenter",
    "TimmBackbone",
    "dilated_resnet",
    "export_weights",
    "import_weights",
]
