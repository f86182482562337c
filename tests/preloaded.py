"""Imported once by the process from which the commands are forked: all that costs them time."""

# ruff: noqa: F401

import matplotlib.pyplot
import pytest  # the main module, at which every child looks
import torch._dynamo  # imported by the first optimizer
import tqdm.auto

import danet_lightning.benchmarking.samples
import danet_lightning.callbacks
import danet_lightning.checking.report
import danet_lightning.conversion
import danet_lightning.data.drawing
import danet_lightning.preparing.preparation
import danet_lightning.run
import danet_lightning.submission
import danet_lightning.tracking
from danet_lightning.config.launch import check_command_line
from danet_lightning.config.schema import TrainConfig

check_command_line("train", TrainConfig, ["trainer=cpu"])  # Hydra's parser, the signatures
