import gc
import os
import random
from pathlib import Path

import composition_cache  # noqa: F401
import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before anything imports it: it would ask the network
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks in several processes
os.environ["PYTHONPATH"] = str(Path(__file__).parent / "users")  # what the commands name as theirs


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers share the server from which commands are forked: it imports for 10 s."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        import commands  # noqa: F401


def pytest_collection_finish() -> None:
    """Keep the garbage collector from all that is imported by now: looking at it takes 0.4 s.

    From then on it looks every 20,000 objects, not every 700: an eighth of a composition's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture
def seed() -> int:
    """A new seed each time; printed, so that a failure can be repeated with TEST_SEED=..."""
    chosen = int(os.environ.get("TEST_SEED", random.randrange(2**31)))
    print(f"TEST_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny training that was left alone."""
    from trainings import TINY, until_done

    folder = tmp_path_factory.mktemp("undisturbed")
    until_done(folder, *TINY, starts=1)
    return folder / "run"
