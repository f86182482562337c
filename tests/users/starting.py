"""A user's own callback: how the workers that read images are started."""

import multiprocessing

from lightning import Callback

WORKERS_IMPORT = [
    f"danet_lightning.{name}"
    for name in ("config.launch", "data.drawing", "data.samples.dataset", "data.samples.transforms")
]


class Starting(Callback):
    def __init__(self, method):
        multiprocessing.set_start_method(method, force=True)
        multiprocessing.set_forkserver_preload(WORKERS_IMPORT)
