"""A new training from old weights."""

from pathlib import Path

import pytest
import torch
from commands import danet
from small_net import SmallNet
from trainings import TINY

from danet_lightning.errors import RequestError
from danet_lightning.models import DANet, dilated_resnet
from danet_lightning.train.initialization import initialize


def facts_of(path: Path, **changes: object) -> dict:
    return torch.load(path, weights_only=True)["danet_lightning"] | changes


def initialized(net: DANet, wider: DANet, path: Path, facts: dict) -> tuple[str, list[str]]:
    """Fill a network; what it says, and which tensors were left as they were."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    said = initialize(net, wider, path, facts)
    weights = torch.load(path, weights_only=True)["state_dict"]
    left = []
    for name, tensor in net.state_dict().items():
        if not torch.equal(tensor, before[name]):
            assert torch.equal(tensor, weights[f"net.{name}"]), name
        elif tensor.shape != weights[f"net.{name}"].shape or not torch.equal(
            tensor, weights[f"net.{name}"]
        ):
            left.append(name)
    return said, left


def test_init_from_takes_the_weights(undisturbed: Path, tmp_path: Path) -> None:
    best = undisturbed / "best.ckpt"
    weights = torch.load(best, weights_only=True)["state_dict"]

    result = danet(
        "train", *TINY, f"init_from={best}", "run_dir=new", "+trainer.max_steps=1",
        "optimizer.lr=0.0", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "tensors taken from" in result.stdout
    assert "left random" not in result.stdout
    content = torch.load(tmp_path / "new" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 1
    for name, tensor in content["state_dict"].items():
        if not name.endswith(("_mean", "_var", "_tracked")):  # batch statistics, of one step more
            assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("classes", [5, None], ids=["another number", "other names"])
def test_class_layers_start_anew_for_other_classes(undisturbed: Path, classes: int | None) -> None:
    best = undisturbed / "best.ckpt"
    count = classes or len(facts_of(best)["classes"])
    net, wider = (DANet(SmallNet(), num_classes=count + more) for more in (0, 1))
    facts = facts_of(best, classes=[f"other {index}" for index in range(count)])
    said, left = initialized(net, wider, best, facts)
    assert len(left) == 6  # weight and bias of fused, position and channel
    assert "of other classes, left random" in said
    assert all(name in said for name in left)


def test_a_branch_that_the_other_network_had_not_is_told(undisturbed: Path, tmp_path: Path) -> None:
    best = undisturbed / "best.ckpt"
    content = torch.load(best, weights_only=True)
    for name in [name for name in content["state_dict"] if "position" in name]:
        del content["state_dict"][name]
    content["optimizer_states"] = []
    torch.save(content, tmp_path / "without.ckpt")
    count = len(facts_of(best)["classes"])
    net, wider = (DANet(SmallNet(), num_classes=count + more) for more in (0, 1))
    said = initialize(net, wider, tmp_path / "without.ckpt", facts_of(best))
    assert "not in the file, left random: " in said


def test_another_backbone_is_refused(undisturbed: Path) -> None:
    best = undisturbed / "best.ckpt"
    facts = facts_of(best)
    backbone = {"_target_": "danet_lightning.models.dilated_resnet", "name": "resnet18"}
    other = {**facts["config"], "model": {**facts["config"]["model"], "backbone": backbone}}
    count = len(facts["classes"])
    nets = [DANet(dilated_resnet("resnet18"), num_classes=count + more) for more in (0, 1)]
    before = [tensor.clone() for tensor in nets[0].state_dict().values()]
    with pytest.raises(RequestError) as raised:
        initialize(nets[0], nets[1], best, {**facts, "config": other})
    assert "is of another network" in str(raised.value)
    assert "backbone._target_=small_net.SmallNet" in str(raised.value)
    assert all(map(torch.equal, before, nets[0].state_dict().values()))


def test_weights_of_a_diverged_training_are_refused(undisturbed: Path, tmp_path: Path) -> None:
    content = torch.load(undisturbed / "best.ckpt", weights_only=True)
    content["state_dict"]["net.backbone.fourth.bias"].fill_(torch.nan)
    torch.save(content, tmp_path / "diverged.ckpt")
    facts = content["danet_lightning"]
    net, wider = (DANet(SmallNet(), num_classes=len(facts["classes"]) + more) for more in (0, 1))
    with pytest.raises(RequestError, match=r"init_from: .*diverged\.ckpt: backbone.* holds NaN"):
        initialize(net, wider, tmp_path / "diverged.ckpt", facts)
