"""Device, precision and threads of a training, resolved once and recorded. Nothing is set at import.

CPU and GPU share one code path and differ in these three values only. Bit-exact reproducibility holds on the CPU only.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from openmlops.core.types import Value
from openmlops.errors import TrainingError
from openmlops.learning.config import FitConfig


class Compute(Value):
    """Resolved: `device` cpu or cuda, `precision` float32 or bfloat16 (autocast of matrix products), CPU `threads`."""

    device: str
    precision: str
    threads: int

    @classmethod
    def of(cls, config: FitConfig) -> "Compute":
        """Resolve what the configuration leaves open. Raises TrainingError for a GPU that is not available."""
        if config.device == "cuda" and not torch.cuda.is_available():
            raise TrainingError("The device is 'cuda', but torch finds no GPU", "Use --device cpu, or install the GPU's driver")
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = config.precision
        if precision == "auto":
            precision = "bfloat16" if device == "cuda" else "float32"
        return cls(device=device, precision=precision, threads=config.threads or min(cores(), torch.get_num_threads()))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Set threads and deterministic kernels inside the block; the process's own settings and random state are restored."""
        threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
        torch.set_num_threads(self.threads)
        # use_deterministic_algorithms would do the same, but imports torch's compiler first (two seconds)
        torch.set_deterministic_debug_mode("error" if self.device == "cpu" else "default")
        try:
            with torch.random.fork_rng():
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(mode)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass in this precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16")


def cores() -> int:
    """CPU cores that this process may use; respects `taskset` and cpusets, not a container's CPU quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
