"""Segment your own images into index PNGs and overlays."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from danet_lightning.config.launch import launch
from danet_lightning.config.schema import PredictConfig


def predict(config: DictConfig, run_dir: Path) -> None:
    """Predict `config.input` or a split; exit code 1 if an image had to be skipped."""
    from danet_lightning import checkpoint, prediction, submission
    from danet_lightning.building import build_over, request_errors
    from danet_lightning.rebuilding import PROTOCOL
    from danet_lightning.sharing import Team

    content = checkpoint.read(config.ckpt_path)
    net = checkpoint.restore(content, config.trusted)
    with request_errors():
        own = content["danet_lightning"]["config"]
        net.protocol = build_over(own["protocol"], config.protocol, PROTOCOL, config.trusted)
        work = submission.plan(config, net, own)
    team = Team(config.device, int(os.environ.get("LOCAL_WORLD_SIZE", config.devices)))
    device = prediction.choose_device(team.device)
    prediction.prepare_output(config.output)
    skipped = prediction.predict_images(
        net,
        team.share(work.jobs),
        device,
        config.opacity,
        work.ids,
        work.has_palette,
    )
    skipped = team.collect(skipped)
    if team.rank:
        return
    done = len(work.jobs) - len(skipped)
    print(f"{done} of {len(work.jobs)} images segmented into {config.output}")
    if skipped:
        print(f"{len(skipped)} skipped:", *skipped, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)
    if work.form:
        print(f"packed into {work.form.pack(work.jobs, Path(config.output).expanduser())}")


if __name__ == "__main__":
    launch(predict, PredictConfig)
