"""What other implementations of DANet call its tensors."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """What another implementation calls its tensors, and what they do not tell.

    Attributes:
        title: In messages.
        mark: Matches the end of a name that no other source has; what stands before it is a
            wrapper's prefix.
        names: Beginnings of its names and of ours, the first match counts.
        multi_grid: Its default.
        align_corners: Its default.
        dilate_second: See dilated_resnet.
        unused: Beginnings of names that its network carries along and never uses.
    """

    title: str
    mark: str
    names: tuple[tuple[str, str], ...]
    multi_grid: tuple[int, ...] | None
    align_corners: bool
    dilate_second: bool
    unused: tuple[str, ...] = ()

    def to_ours(self, name: str) -> str:
        """Return our name for one of the source's; unchanged where it has no counterpart."""
        return _replaced(name, self.names)

    def from_ours(self, name: str) -> str:
        """Return the source's name for one of ours; unchanged where it has no counterpart."""
        return _replaced(name, [(ours, theirs) for theirs, ours in self.names])


def _replaced(name: str, beginnings: Sequence[tuple[str, str]]) -> str:
    for old, new in beginnings:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


POSITION, CHANNEL = "branches.position", "branches.channel"

AUTHORS = Source(
    title="the authors' DANet",
    mark=r"head\.conv5[ac]\.0\.weight",
    names=(
        ("pretrained.", "backbone."),
        ("head.conv5a.", f"{POSITION}.reduce."),
        ("head.sa.query_conv.", f"{POSITION}.attention.query."),
        ("head.sa.key_conv.", f"{POSITION}.attention.key."),
        ("head.sa.value_conv.", f"{POSITION}.attention.value."),
        ("head.sa.gamma", f"{POSITION}.attention.gamma"),
        ("head.conv51.", f"{POSITION}.refine."),
        ("head.conv5c.", f"{CHANNEL}.reduce."),
        ("head.sc.gamma", f"{CHANNEL}.attention.gamma"),
        ("head.conv52.", f"{CHANNEL}.refine."),
        ("head.conv6.", "classifiers.position."),
        ("head.conv7.", "classifiers.channel."),
        ("head.conv8.", "classifiers.fused."),
    ),
    multi_grid=(4, 8, 16),
    align_corners=True,
    dilate_second=True,
    unused=("pretrained.fc.",),  # ImageNet's classifier stays in their backbone
)

MMSEGMENTATION = Source(
    title="MMSegmentation's DANet",
    mark=r"(decode_head\.)?[pc]am_in_conv\.conv\.weight",
    names=(
        ("backbone.stem.7.", "backbone.bn1."),
        ("backbone.stem.", "backbone.conv1."),
        ("decode_head.pam_in_conv.conv.", f"{POSITION}.reduce.0."),
        ("decode_head.pam_in_conv.bn.", f"{POSITION}.reduce.1."),
        ("decode_head.pam.query_project.", f"{POSITION}.attention.query."),
        ("decode_head.pam.key_project.", f"{POSITION}.attention.key."),
        ("decode_head.pam.value_project.", f"{POSITION}.attention.value."),
        ("decode_head.pam.gamma.scale", f"{POSITION}.attention.gamma"),
        ("decode_head.pam_out_conv.conv.", f"{POSITION}.refine.0."),
        ("decode_head.pam_out_conv.bn.", f"{POSITION}.refine.1."),
        ("decode_head.cam_in_conv.conv.", f"{CHANNEL}.reduce.0."),
        ("decode_head.cam_in_conv.bn.", f"{CHANNEL}.reduce.1."),
        ("decode_head.cam.gamma.scale", f"{CHANNEL}.attention.gamma"),
        ("decode_head.cam_out_conv.conv.", f"{CHANNEL}.refine.0."),
        ("decode_head.cam_out_conv.bn.", f"{CHANNEL}.refine.1."),
        ("decode_head.conv_seg.", "classifiers.fused.1."),
        ("decode_head.pam_conv_seg.", "classifiers.position.1."),
        ("decode_head.cam_conv_seg.", "classifiers.channel.1."),
        ("auxiliary_head.convs.0.conv.", "aux.0."),
        ("auxiliary_head.convs.0.bn.", "aux.1."),
        ("auxiliary_head.conv_seg.", "classifiers.aux.1."),
    ),
    multi_grid=None,
    align_corners=False,
    dilate_second=False,
)
