"""What torch.compile makes of a network, and what stays as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import danet
from small_net import SmallNet
from trainings import TINY, TRUSTED

from danet_lightning.config.building import run_errors
from danet_lightning.errors import RunError
from danet_lightning.models import DANet

PLAIN = "+callbacks.plain._target_=plain_kernels.PlainKernels"


@pytest.mark.slow
def test_the_network_is_one_graph(seed: int) -> None:
    """Of which torch.compile makes kernels; whatever breaks it would be an error here."""
    torch.manual_seed(seed)
    net = DANet(SmallNet(), 3, gamma_init=1.0, dropout=0.0)
    images = torch.randn(2, 3, 272, 200)  # 850 positions: several blocks
    expected = net(images)
    names = list(net.state_dict())
    net.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(net(images), expected)
    assert list(net.state_dict()) == names


def test_what_cannot_be_compiled_is_a_sentence() -> None:
    def backend(graph: Any, examples: Any) -> Any:
        raise ValueError("no compiler here")

    net = torch.nn.Linear(2, 2)
    net.compile(backend=backend)
    with pytest.raises(RunError, match=r"compile: BackendCompilerFailed.*compile=false"):  # noqa: SIM117
        with run_errors():
            net(torch.zeros(1, 2))


@pytest.mark.slow
def test_a_compiled_training_leaves_checkpoints_like_any_other(
    tmp_path: Path,
) -> None:
    states = []
    for compiled in ("false", "true"):
        # compiled, dropout draws other numbers
        words = [f"compile={compiled}", "model.dropout=0", f"run_dir={compiled}"]
        result = danet("train", *TINY, *words, PLAIN, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        content = torch.load(tmp_path / compiled / "best.ckpt", weights_only=True)
        states.append(content["state_dict"])
    one, other = states
    for (
        state
    ) in states:  # a bias ahead of a batch norm: AdamW makes steps of its gradient's rounding
        del state["net.backbone.third.0.bias"], state["net.backbone.third.1.running_mean"]
    assert list(one) == list(other)
    for name, weights in one.items():
        torch.testing.assert_close(other[name], weights, rtol=1e-3, atol=1e-4)
    result = danet("evaluate", "ckpt_path=true/best.ckpt", TRUSTED, "trainer=cpu", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
