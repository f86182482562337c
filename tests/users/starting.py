"""A user's own callback: how the workers that read images are started."""

import multiprocessing

from lightning import Callback


class Starting(Callback):
    def __init__(self, method):
        multiprocessing.set_start_method(method, force=True)
