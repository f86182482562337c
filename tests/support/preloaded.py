"""Imported once by the process from which the commands are forked: all that costs them time."""

# ruff: noqa: F401

import gc

import composition_cache
import matplotlib.backends.backend_agg
import matplotlib.pyplot
import pytest  # the main module, at which every child looks
import torch._dynamo  # imported by the first optimizer
import tqdm.auto
from launching import check_command_line

import danet_lightning.check.report
import danet_lightning.convert.run
import danet_lightning.data.drawing
import danet_lightning.predict.submission
import danet_lightning.prepare.run
import danet_lightning.report.run
import danet_lightning.train.callbacks
import danet_lightning.train.run
import danet_lightning.train.wandb_logger
from danet_lightning.config.commands import EvaluateConfig, PredictConfig, TrainConfig

for logger in ([], ["logger=csv"]):  # Hydra's parser, the signatures, what most tests compose
    check_command_line("train", TrainConfig, ["trainer=cpu", *logger])
found = f"ckpt_path={__file__}"
check_command_line("evaluate", EvaluateConfig, [found, "trainer=cpu"])
check_command_line("predict", PredictConfig, [found, "input=photos", "output=out"])
gc.collect()
gc.freeze()  # a look at a million objects that stay takes a child longer than its own work
gc.set_threshold(20_000)  # as in the tests
