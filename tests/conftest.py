import os
import random

import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before anything imports it: it would ask the network
os.environ["WANDB_MODE"] = "offline"


@pytest.fixture
def seed() -> int:
    """A new seed each time; printed, so that a failure can be repeated with TEST_SEED=..."""
    chosen = int(os.environ.get("TEST_SEED", random.randrange(2**31)))
    print(f"TEST_SEED={chosen}")
    return chosen
