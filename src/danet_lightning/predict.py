"""Segment your own images into index PNGs and overlays."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import PredictConfig


def predict(config: DictConfig, run_dir: Path) -> None:
    """Predict every image of `config.input`; exit code 1 if one had to be skipped."""
    from danet_lightning import checkpoint, prediction
    from danet_lightning.building import build_over, request_errors

    jobs = prediction.plan(config.input, config.output)
    device = prediction.choose_device(config.device)
    content = checkpoint.read(config.ckpt_path)
    net = checkpoint.restore(content, config.trusted)
    with request_errors():
        own = content["danet_lightning"]["config"]["protocol"]
        net.protocol = build_over(own, config.protocol, config.trusted)
    prediction.prepare_output(config.output)
    skipped = prediction.predict_images(net, jobs, device, config.opacity)
    print(f"{len(jobs) - len(skipped)} of {len(jobs)} images segmented into {config.output}")
    if skipped:
        print(f"{len(skipped)} skipped:", *skipped, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    launch(predict, PredictConfig)
