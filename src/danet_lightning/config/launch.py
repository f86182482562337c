"""Launch a command: compose its configuration, check it, call the task, explain what failed."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from danet_lightning.config.commands import CommandConfig
from danet_lightning.config.explanation import explain, refuse
from danet_lightning.config.machine import require_working_folder, settle_in
from danet_lightning.config.request import (
    VERSION_BASE,
    Request,
    checked_request,
    conf_dir,
    validate,
)
from danet_lightning.config.run_folder import Folder, occupied
from danet_lightning.config.spelling import inserted, quoted, understood
from danet_lightning.config.sweep import point, score, share_cores, sweep
from danet_lightning.config.terminal import protect_log, protect_output
from danet_lightning.disk.writing import FULL, machine_errors, refusal
from danet_lightning.errors import RequestError, RunError
from danet_lightning.processes.internals import run_job
from danet_lightning.processes.launching import (
    command_line,
    one_configuration,
    rank,
    wait_for_first,
)

SWEEP_DIRS = ("sweep_dir=", "hydra.sweep.dir=")


def launch(name: str, form: type[CommandConfig]) -> None:
    """Run a command: compose and check the config of its name, then call its `run` module.

    The points of a sweep are all checked before the first one runs. Ends the process with code 2
    and a message when the request was wrong, with 1 when the run failed, with 130 after Ctrl-C.

    Args:
        name: The command's. `danet_lightning.<name>.run.<name>` is called with the config and the
            run folder, which exists and is `config.run_dir`; it is imported when all is checked.
        form: The typed top level of the config.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask a server
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as they are, not printed by Hydra
    os.environ["MPLBACKEND"] = "agg"  # no figure is shown; a notebook's may not be importable here
    protect_output()
    started = False

    def job(config: DictConfig) -> Any:
        nonlocal started
        started = True
        protect_log()
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        with open_dict(config):
            config.run_dir = str(run_dir)
        is_point = HydraConfig.get().mode is RunMode.MULTIRUN
        with point(run_dir) if is_point else exit_codes():
            if is_point:  # composed by the sweeper, which may have sampled its values just now
                validate(config, form, HydraConfig.get().overrides.task)
            claim = occupied(Folder("run", run_dir, is_dated=False)) if is_point else nullcontext()
            settle_in()
            with claim, machine_errors(run_dir), one_configuration(name, config, run_dir):
                run_module = import_module(f"danet_lightning.{name}.run")
                getattr(run_module, name)(config, run_dir)
            return score(run_dir) if is_point else None

    job.__name__ = name  # by which Hydra calls the job
    try:
        require_working_folder()
        arguments = understood(sys.argv[1:], form)
        with checked_request(name, form, arguments) as request:
            if request.config is not None:
                _run(name, request.config, request.folder, job)
                return
        main = hydra.main(str(conf_dir()), name, VERSION_BASE)(job)
        if request.folder is not None:
            _sweep(name, arguments, request, main)
            return
        with command_line(arguments):  # help, or a configuration, is printed
            main()
    except KeyboardInterrupt:
        kept = "; what was written stays in the run folder" if form.leaves_folder else ""
        print(f"Interrupted{kept}.", file=sys.stderr)
        sys.exit(130)
    except RunError as error:  # of a point, that even the note of it cannot be written
        print(error, file=sys.stderr)
        sys.exit(1)
    except RequestError as error:
        refuse(error)
    except (HydraException, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        if started:
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            name = error.filename or "A file of run_dir"
            print(refusal(name, error), file=sys.stderr)
            sys.exit(1)
        refuse(error)


def _run(
    name: str, config: DictConfig, chosen: Folder | None, job: Callable[[DictConfig], Any]
) -> None:
    """Run a job in its folder, which is made and kept from others before Hydra writes there."""
    records = (".hydra", f"{name}.log")
    with occupied(chosen, records) if chosen else nullcontext() as folder:
        if folder is not None:
            with read_write(config.hydra):
                config.hydra.run.dir = str(folder)
        run_job(config, job)


def _sweep(name: str, arguments: Sequence[str], request: Request, main: Callable[[], Any]) -> None:
    """Let Hydra run the points of a sweep, all in one folder, wherever they run."""
    assert request.folder is not None
    with occupied(request.folder) as folder:
        place = quoted(str(folder))
        is_named = any(each.startswith(SWEEP_DIRS) for each in arguments)
        stays = [] if is_named else [f"sweep_dir={place}"]
        again = ["python", "-m", f"danet_lightning.{name}", *arguments, *stays]
        share_cores(request.together)
        all_arguments = inserted(arguments, f"hydra.sweep.dir={place}", *request.settings)
        with command_line(all_arguments), sweep(folder, again, request.overrides):
            main()


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the process with the code of an error, after printing what a user needs of it.

    In the first process an error that has no name of ours goes on as it is.
    """
    try:
        yield
    except Exception as error:
        named = isinstance(error, RequestError | RunError)
        if rank() == 0 and not named:
            raise
        text = explain(error) if named else traceback.format_exc()
        print(f"process {rank()}: {text}" if rank() else text, file=sys.stderr)
        wait_for_first()
        sys.exit(2 if isinstance(error, RequestError) else 1)
