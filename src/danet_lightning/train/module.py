"""Train a segmentation network.

B: images, C: classes, H, W: pixels.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from pydantic import AfterValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from danet_lightning.errors import ROUNDING, RequestError, checked
from danet_lightning.evaluate.module import EvaluationModule
from danet_lightning.models.segmenter import normalize
from danet_lightning.train.losses import LEAST, labelled_pixels, require_terms
from danet_lightning.train.meter import Meter, begin_peak


def _comparing(loss: nn.Module) -> nn.Module:
    """Refuse a loss whose forward does not take (outputs, mask), before the first batch is read."""
    try:
        inspect.signature(loss.forward).bind("outputs", "mask")
    except TypeError as error:
        raise ValueError(f"cannot be called with (outputs, mask): {error}") from error
    return loss


class SegmentationModule(EvaluationModule):
    """Train as the authors do: summed losses, poly learning rate, a faster head.

    The network returns {"fused": (B, C, H, W) logits, ...}; its parameters outside `backbone`
    are the head.

    Args:
        net: As in EvaluationModule.
        loss: (outputs, mask) -> {name: scalar}; their sum is minimized. Each is a mean over the
            labelled pixels, or over what the loss's `counted(mask)` says.
        optimizer: Parameter groups -> optimizer; its lr is the backbone's.
        head_lr_factor: Learning rate of the head over the backbone's.
        poly_power: The learning rate is lr * (1 - iteration / total)^power.
        eta_min: Where it ends instead of at 0, in every group: (lr - eta_min) takes lr's place
            and eta_min is added (MMSegmentation's schedule).
        decay_gamma: Whether weight decay applies to the branches' gamma too.
        seed: Dropout is a function of (seed, epoch, batch, process).
        compile: Whether training runs the network as torch.compile's kernels, in one process.
        options: The other arguments of EvaluationModule.
    """

    @checked
    def __init__(
        self,
        net: nn.Module,
        loss: Annotated[nn.Module, AfterValidator(_comparing)],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        head_lr_factor: PositiveFloat = 10.0,
        poly_power: NonNegativeFloat = 0.9,
        eta_min: NonNegativeFloat = 0.0,
        decay_gamma: bool = True,
        seed: NonNegativeInt = 0,
        compile: Annotated[bool, ROUNDING] = False,
        **options: Any,
    ) -> None:
        super().__init__(net, **options)
        self.loss = loss
        self.optimizer = optimizer
        self.head_lr_factor = head_lr_factor
        self.poly_power = poly_power
        self.eta_min = eta_min
        self.decay_gamma = decay_gamma
        self.seed = seed
        self.compile_net = compile
        if compile:
            self.net.compile()  # in place: no name in a checkpoint changes; `predict_logits` stays
        self.meter = Meter()
        # of the batches of this step: labelled shares, and the losses times these
        self._shares: list[Tensor] = []
        self._losses: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Share batch statistics between GPUs, as the paper does; CPUs cannot.

        Raises:
            RequestError: A compiled network would have to share them.
        """
        if self.compile_net and self.trainer.world_size > 1:
            raise RequestError(
                f"compile: {self.trainer.world_size} processes share batch statistics at each "
                "batch norm, where a compiled network would break into pieces. Use "
                "trainer.devices=1, or compile=false."
            )
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cuda":
            self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)  # type: ignore[no-untyped-call]

    def on_fit_start(self) -> None:
        """Begin to measure the memory."""
        begin_peak(self.device)

    def on_train_start(self) -> None:
        """Take the learning rate of this training's length, if a shorter one had ended with 0."""
        schedule: Any = self.lr_schedulers()
        for group, rate, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = rate * factor(schedule.last_epoch)

    def on_train_epoch_start(self) -> None:
        """Begin to measure, here and after each validation."""
        self.meter.go_on()

    def on_validation_end(self) -> None:
        """Leave the validation out of the time of a step."""
        self.meter.go_on()

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Seed dropout for this batch, so that it does not depend on what ran before."""
        key = (self.trainer.current_epoch, batch_idx, self.global_rank)
        state = np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the sum of the outputs' losses for a batch."""
        outputs = self.net(normalize(batch["image"], self.mean, self.std))
        terms = require_terms(self.loss(outputs, batch["mask"]))
        total = torch.stack(list(terms.values())).sum()
        self.log("train/loss", total.detach(), logger=False)
        parts = self.trainer.accumulate_grad_batches
        share = torch.ones_like(total)
        if parts > 1:
            counted: Callable[[Tensor], Tensor] = getattr(self.loss, "counted", labelled_pixels)
            share = counted(batch["mask"]) / batch["mask"].numel()
        self._shares.append(share)
        self._losses.append(share * torch.stack([total, *terms.values()]).detach())
        if (batch_idx + 1) % parts == 0:
            self.meter.stepped(len(batch["mask"]) * parts * self.trainer.world_size)
            self._record_step(terms)
        return total * share

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the accumulated gradient that of the mean over all labelled pixels of the step.

        Lightning averages over the batches of a step, however much in each of them counts.
        """
        if self.trainer.accumulate_grad_batches > 1:
            mean = torch.stack(self._shares).mean().clamp(min=LEAST)
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(mean)
        self._shares, self._losses = [], []

    def _record_step(self, terms: Iterable[str]) -> None:
        step, trainer = self.trainer.global_step, self.trainer
        steps_an_epoch = int(trainer.num_training_batches) // trainer.accumulate_grad_batches
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        limits = [number for number in (steps_an_epoch, trainer.max_steps) if number > 0]
        every = min([every, *limits])  # so that a short run has a curve as well
        if every == 0 or (step + 1) % every:
            return
        names = ["train/loss", *(f"train/loss/{name}" for name in terms)]
        # each process has the share of its own pixels
        values = torch.stack(self._losses).sum(0) / torch.stack(self._shares).sum().clamp(min=LEAST)
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        row = dict(zip(names, values.tolist(), strict=True))
        row |= {f"gamma/{name}": gamma for name, gamma in self.gammas().items()}
        rates = (group["lr"] for group in self.trainer.optimizers[0].param_groups)
        pairs = zip(self._parameter_groups(), rates, strict=False)
        row |= {f"lr/{name}": rate for name, rate in pairs}
        waited = getattr(self.trainer.train_dataloader, "waited", 0.0)  # or one of the user's
        self.record(row | self.meter.lap(self.device, waited), step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make the optimizer of backbone, head and gamma, and its poly schedule over all steps."""
        try:
            optimizer = self.optimizer([*self._parameter_groups().values()], **self._fused())
        except (TypeError, ValueError) as error:
            raise RequestError(f"optimizer: {error}") from error
        if not isinstance(optimizer, Optimizer):
            raise RequestError(f"optimizer: makes a {type(optimizer).__name__}, not an Optimizer")
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_factor")
        schedule = LambdaLR(
            optimizer, [self._poly(group["lr"]) for group in optimizer.param_groups]
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _fused(self) -> dict[str, bool]:
        """Ask for one kernel that updates all parameters, of an optimizer that has it on CUDA.

        Not where the command line says how, nor in float16, where gradients could not be clipped.
        """
        strategy, options = self.trainer.strategy, inspect.signature(self.optimizer).parameters
        is_free = all(
            name in options and options[name].default is None for name in ("foreach", "fused")
        )
        is_meant = strategy.root_device.type == "cuda" and self.trainer.precision != "16-mixed"
        return {"fused": True} if is_free and is_meant else {}

    def _poly(self, lr: float) -> Callable[[int], float]:
        total = max(1, int(self.trainer.estimated_stepping_batches))
        floor = self.eta_min / lr if lr else 1.0
        return lambda i: floor + (1 - floor) * (1 - min(i, total) / total) ** self.poly_power

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add configuration, classes, palette and normalization to a checkpoint."""
        checkpoint["danet_lightning"] = self.metadata

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember which step the weights are of, which the pictures tell."""
        self.loaded_step: int = checkpoint["global_step"]

    def cost(self) -> dict[str, float | None]:
        """Return what this start of the training has taken, see Meter.summary."""
        return self.meter.summary(self.device)

    def _parameter_groups(self) -> dict[str, dict[str, Any]]:
        groups: dict[str, list[nn.Parameter]] = {"backbone": [], "head": [], "gamma": []}
        for name, parameter in self.net.named_parameters():
            if name.startswith("backbone."):  # where ConvNeXt's scale of a layer is a gamma, too
                groups["backbone"].append(parameter)
            else:
                groups["gamma" if name.endswith("gamma") else "head"].append(parameter)
        options: dict[str, dict[str, float]] = {
            "backbone": {"lr_factor": 1.0},
            "head": {"lr_factor": self.head_lr_factor},
            "gamma": {"lr_factor": self.head_lr_factor},
        }
        if not self.decay_gamma:
            options["gamma"]["weight_decay"] = 0.0
        return {name: {"params": p, **options[name]} for name, p in groups.items() if p}
