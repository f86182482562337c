"""Each command imports what it uses: in a fresh interpreter, what is loaded at its end."""

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

HEAVY = ("albumentations", "lightning", "pandas", "scipy", "torchmetrics", "wandb")
CHECK = """
import runpy, sys
sys.argv = ["check", *sys.argv[1:]]
runpy.run_module("danet_lightning.check", run_name="__main__", alter_sys=True)
"""
PREDICT = """
import sys
from danet_lightning import load
net = load(sys.argv[1], ["small_net"])
assert not net.training and len(net.classes) == len(net.palette)
import torch
out = net(torch.zeros(1, 3, 33, 47, dtype=torch.uint8))
assert out["channel"].shape == (1, 11, 33, 47)
framework = {"hydra", "omegaconf"} & set(sys.modules)
assert not framework, framework
import danet_lightning.predict.__main__, danet_lightning.predict.run
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models import DANet, dilated_resnet
DANet(dilated_resnet("resnet18"), num_classes=2)
"""
LOADED = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded(script: str, *arguments: str, cwd: Path) -> set[str]:
    """The packages that are there after a script, the last line of its output being theirs."""
    command = [sys.executable, "-c", script + LOADED, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def imported(path: Path) -> set[str]:
    """The packages that a file of ours imports, anywhere in it."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_what_is_imported_is_asked_for() -> None:
    """And does not come along with another package only for as long as that one needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    asked = {canonicalize_name(Requirement(line).name) for line in lines}
    packages = set.union(*map(imported, (ROOT / "src").rglob("*.py")))
    packages -= {*sys.stdlib_module_names, "danet_lightning"}
    sources = packages_distributions()
    unasked = [
        name for name in packages if not asked & {canonicalize_name(each) for each in sources[name]}
    ]
    assert unasked == []


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["scenes", "camvid"])
def test_check_needs_no_torch(tmp_path: Path, dataset: str) -> None:
    from fake_trees import write_camvid

    write_camvid(tmp_path / "camvid")
    few = [f"dataset.{split}_images=1" for split in ("train", "val", "test")]
    options = few if dataset == "scenes" else ["dataset.root=camvid"]
    packages = loaded(CHECK, f"dataset={dataset}", *options, "run_dir=out", cwd=tmp_path)
    assert not packages & {*HEAVY, "torch", "torchvision"}
    assert {"cv2", "matplotlib"} <= packages
    assert (tmp_path / "out" / "check.json").is_file()


@pytest.mark.slow
def test_predict_and_load_need_no_lightning(undisturbed: Path, tmp_path: Path) -> None:
    """And `load`, which gives a network that works, no Hydra either."""
    packages = loaded(PREDICT, str(undisturbed / "best.ckpt"), cwd=tmp_path)
    assert not packages & {*HEAVY, "matplotlib", "sympy", "torchvision"}
    assert "torch" in packages
