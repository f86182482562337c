"""A user's own callback: kernels without vector instructions, which take less time to compile."""

from lightning import Callback
from torch._inductor import config


class PlainKernels(Callback):
    def __init__(self):
        config.cpp.vec_isa_ok = False
        config.compile_threads = 1
