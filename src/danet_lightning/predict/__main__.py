"""Segment your own images into index PNGs and overlays."""

from danet_lightning.config.commands import PredictConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("predict", PredictConfig)
