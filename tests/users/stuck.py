"""A user's own callback: Ctrl-C comes, and the step does not end."""

import os
import signal
import time
from pathlib import Path

from lightning import Callback


class Stuck(Callback):
    def on_before_optimizer_step(self, *_):
        os.kill(os.getpid(), signal.SIGINT)
        Path("stuck").touch()
        time.sleep(200)
