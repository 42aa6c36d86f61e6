"""What Lightning does to a process besides training, undone."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ADVICE = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists.*",
    ".*smaller than the logging interval.*",
    ".*have no .val_dataloader.*",  # a recipe may validate on nothing
    ".*fp16 is not supported on CPU.*",  # `train` refuses it
    ".*dirpath has changed.*",  # a run may be moved before it is resumed
    ".*module.s. in eval mode at the start.*",  # the averaged network is, and should be
    ".*sync_dist=True.*",  # what is logged was summed over the ranks before
    ".*broadcast_buffers. is deprecated.*",  # nothing replaces it yet
    ".*LeafSpec.* is deprecated.*",  # Lightning's own use of PyTorch
)
"""Warnings that tell a user of this library nothing they could act on."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner, tips and `ADVICE`."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in ADVICE:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def own_determinism() -> Iterator[None]:
    """Give back whether operations whose sums depend on threads are refused."""
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back as it was: Lightning leaves it ignored after an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
