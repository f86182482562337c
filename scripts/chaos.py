"""Kill small trainings, start them again, and compare what they leave with undisturbed ones.

    python scripts/chaos.py 30 seed=7 data.workers=2      30 kills at random moments
    python scripts/chaos.py --events                         at every file event, in turn
    python scripts/chaos.py --events --twice --setting half  and once more after the next start

Everything in best.ckpt, last.ckpt, metrics.csv and results.json has to be the same, but what
comparison.EXEMPT names. Exit code 1: a difference, which is named. CHAOS_SEED=... in the
environment repeats the random choices of a run.
"""

import argparse
import atexit
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from comparison import differences

USERS = Path(__file__).parents[1] / "tests" / "users"  # the small network
PRELOADED = [
    "danet_lightning.train.run",
    "danet_lightning.train.callbacks",
    "danet_lightning.data.drawing",
]
PRELOADED += ["torch._dynamo", "tqdm.auto"]
TRAINING = [
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "batch_size=2",
    "backbone._target_=small_net.SmallNet", "dataset.train_images=8", "dataset.val_images=2",
    "dataset.size=[32,64]", "augmentation.crop_size=[32,64]", "augmentation.color_jitter=0.3",
    "trainer.log_every_n_steps=1", "logger=csv", "~callbacks.pictures",
]  # fmt: skip
EVERY_STEP = "callbacks.last.every_minutes=1e-9"
STOP = "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping"
SETTINGS = {
    "plain": [],
    "limited": ["+trainer.limit_train_batches=3"],
    "limited_share": ["+trainer.limit_train_batches=0.5"],
    "half": ["+trainer.val_check_interval=0.5"],
    "accumulated": ["trainer.accumulate_grad_batches=2"],
    "steps": ["trainer.max_epochs=-1", "+trainer.max_steps=6"],
    "steps_and_epochs": ["+trainer.max_steps=5"],
    "second_epoch": ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3"],
    "by_batches": ["trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=3"],
    "all_of_it": [
        "trainer.accumulate_grad_batches=2", "+trainer.limit_train_batches=6",
        "+trainer.val_check_interval=4", "+trainer.max_steps=5", "+trainer.limit_val_batches=2",
        "trainer.gradient_clip_val=0.5", "trainer.num_sanity_val_steps=2",
    ],
    "workers": ["data.workers=2"],
    "stopping": [
        STOP, "+callbacks.stop.monitor=val/miou", "+callbacks.stop.patience=1",
        "+callbacks.stop.mode=min", "trainer.max_epochs=5", "+trainer.min_epochs=3",
    ],
    "stopping_inside": [
        STOP, "+callbacks.stop.monitor=train/loss", "+callbacks.stop.patience=1",
        "+callbacks.stop.mode=max", "+callbacks.stop.check_on_train_epoch_end=false",
        "+trainer.val_check_interval=2", "trainer.max_epochs=4",
    ],
    "three_best": ["+callbacks.best.save_top_k=3", "callbacks.best.filename='{step}'"],
}  # fmt: skip
LONGEST = 1.5  # seconds of training before a kill at random
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


# ---- a training in a process of its own, forked from one that has imported everything

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(PRELOADED)


class Training:
    """A training that goes on in a folder, and may kill itself at a file event.

    Args:
        folder: Of the run folder, `run`.
        config: File of the configuration.
        event: The number of the file event at which it kills itself; 0: it counts them.
    """

    def __init__(self, folder: Path, config: Path, event: int = 0) -> None:
        self.output, self.counted = folder / "output", folder / "events"
        self.process = FORKED.Process(target=_train, args=(folder, config, event))
        self.process.start()

    def wait(self) -> int:
        """Return the exit code: 0, or -9 of one that was killed; the others end the script."""
        self.process.join()
        code = int(self.process.exitcode or 0)
        self.kill()
        if code not in (0, -signal.SIGKILL):
            sys.exit(f"ended with {code} by itself:\n{self.shown()[-4000:]}")
        return code

    def kill(self) -> None:
        """Kill it with its workers."""
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join()

    def shown(self) -> str:
        """Return what the trainings in its folder have said so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def events(self) -> list[str]:
        """Return the file events of one that came to its end."""
        return self.counted.read_text().splitlines()


def composed(overrides: list[str], scratch: Path) -> Path:
    """Write the configuration that `train` would have with these overrides; returns the file."""
    config = scratch / "config.yaml"
    process = FORKED.Process(target=_compose, args=(overrides, config))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{' '.join(overrides)}: no configuration")
    return config


def _compose(overrides: list[str], config: Path) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from danet_lightning.config.request import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        made = compose("train", [*TRAINING, *overrides, "run_dir=RUN", "sweep_dir=none"])
    OmegaConf.save(made, config, resolve=True)


def _train(folder: Path, config: Path, event: int) -> None:
    """In the forked process: train as `danet train` does, when it has read its command line."""
    from omegaconf import OmegaConf

    from danet_lightning.train import run

    os.setsid()
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    multiprocessing.set_start_method(None, force=True)  # the default's again, for data loaders
    torch.set_num_threads(1)
    sys.path.insert(0, str(USERS))
    run_dir = folder / "run"
    run_dir.mkdir(exist_ok=True)
    seen = _kill_at(event, run_dir)
    code = 1
    try:
        made: Any = OmegaConf.create(config.read_text().replace("RUN", str(run_dir)))
        run.train(made, run_dir)
        code = 0
    except BaseException:
        traceback.print_exc()
    (folder / "events").write_text("\n".join(seen))
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _kill_at(event: int, run: Path) -> list[str]:
    """Watch the files of a run folder: opened to be written, renamed, removed.

    A file that is opened is empty then, and a kill can leave it so: it is emptied before.
    """
    seen: list[str] = []
    process = os.getpid()

    def hook(name: str, given: tuple[Any, ...]) -> None:
        if name not in ("open", "os.rename", "os.remove") or os.getpid() != process:
            return
        if not isinstance(given[0], str | os.PathLike):
            return
        path = Path.cwd() / os.fsdecode(given[0])
        if not path.is_relative_to(run):
            return
        if name == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
            return
        seen.append(f"{name} {path.relative_to(run)}")
        if len(seen) == event:
            if name == "open" and given[2] & os.O_TRUNC:
                path.write_bytes(b"")
            os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


# ---- the two ways to kill


def at_random(kills: int, overrides: list[str], scratch: Path) -> int:
    """Kill so many times at random moments; a run that ends is followed by another one.

    Returns:
        the number of runs that differ from the undisturbed one.
    """
    config = composed([EVERY_STEP, *overrides], scratch)
    undisturbed = _fresh(scratch / "undisturbed")
    Training(undisturbed, config).wait()
    used, finished, wrong = 0, 0, 0
    while used < kills:
        folder = _fresh(scratch / "disturbed")
        code = -signal.SIGKILL
        while used < kills and code:
            training = Training(folder, config)
            begun = len(training.shown())
            if random.random() < 0.9:  # the others while it starts
                while training.process.is_alive() and "train:" not in training.shown()[begun:]:
                    time.sleep(0.005)
            deadline = time.monotonic() + random.uniform(0, LONGEST)
            while training.process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.005)
            is_writing = (folder / "run" / "last.ckpt.part").exists()
            if training.process.is_alive():
                training.kill()
                used += 1
                print(f"kill {used:3}{', writing a checkpoint' * is_writing}", flush=True)
            else:
                code = training.wait()
        if code:
            Training(folder, config).wait()
        told = differences(undisturbed / "run", folder / "run")
        finished += 1
        wrong += bool(told)
        print(f"run {finished} has ended: {', '.join(told) or 'no difference'}", flush=True)
    print(f"{used} kills, {finished} runs ended, {wrong} differ from the undisturbed one")
    return wrong


def at_events(name: str, overrides: list[str], scratch: Path, is_twice: bool) -> int:
    """Kill a training at each of its file events, or twice: there, and in the start after.

    Returns:
        the number of runs that differ from the undisturbed one.
    """
    config = composed(overrides, scratch)
    undisturbed = _fresh(scratch / "undisturbed")
    training = Training(undisturbed, config)
    training.wait()
    events = training.events()
    print(f"{name}: {len(events)} file events", flush=True)
    first = next((n for n, event in enumerate(events) if event.endswith(".ckpt.part")), 0)
    wrong = 0
    for number in range(1, len(events) + 1):
        folder = _fresh(scratch / "disturbed")
        kills = [number]
        if is_twice:  # within what is left, its start included
            kills.append(random.randint(1, max(1, min(len(events), len(events) - number + first))))
        codes = [Training(folder, config, event).wait() for event in kills]
        if codes[-1]:
            Training(folder, config).wait()
        told = differences(undisturbed / "run", folder / "run")
        wrong += bool(told)
        if told:
            where = f"killed at events {kills} of {len(events)}, {events[number - 1]}"
            print(f"{name}: {where}: {len(told)} differences", *told[:12], sep="\n  ", flush=True)
    kind = "twice" if is_twice else "once"
    print(f"{name}: killed {kind} at each, {wrong} of the runs differ", flush=True)
    return wrong


def _fresh(folder: Path) -> Path:
    """An empty folder; what lay there is moved away, not to be mistaken."""
    number = sum(1 for _ in folder.parent.iterdir())
    fresh = folder.with_name(f"{folder.name} {number}")
    fresh.mkdir()
    return fresh


def main() -> None:
    """Kill as often as asked for, and say what came of it."""
    text = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text[0],
        epilog=text[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="chaos.py [-h] [--events [--twice] [--setting NAME ...]] [kills] [overrides ...]",
    )
    parser.add_argument("--events", action="store_true", help="kill at every file event in turn")
    parser.add_argument("--twice", action="store_true", help="and again in the start after")
    parser.add_argument(
        "--setting", action="append", choices=sorted(SETTINGS), metavar="NAME",
        help=f"for --events, of these, each in turn if none is given: {', '.join(SETTINGS)}",
    )  # fmt: skip
    parser.add_argument(
        "given", nargs="*", metavar="kills, overrides",
        help="how often at random moments (30), and overrides of `train`",
    )  # fmt: skip
    asked = parser.parse_intermixed_args()
    has_number = bool(asked.given) and asked.given[0].isdigit()
    kills, overrides = int(asked.given[0]) if has_number else 30, asked.given[has_number:]
    if any("=" not in override and not override.startswith("~") for override in overrides):
        parser.error(f"{' '.join(overrides)}: overrides are key=value, after the number of kills")
    if has_number and asked.events:
        parser.error("--events kills at each of them; leave out the number")
    if (asked.twice or asked.setting) and not asked.events:
        parser.error("--twice and --setting belong to --events")
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    random.seed(seed)
    print(f"CHAOS_SEED={seed}", flush=True)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        if not asked.events:
            wrong = at_random(kills, overrides, Path(scratch))
        for name in (asked.setting or SETTINGS) if asked.events else ():
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                setting = [*SETTINGS[name], *overrides]
                wrong += at_events(name, setting, Path(folder), asked.twice)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
