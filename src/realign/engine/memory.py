"""How the C library treats memory that is freed."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Keep freed tensors' memory for the next ones, where the C library can be told so.

    A training step on a CPU frees and takes the same large tensors over and over. glibc hands those
    above 32 MB back to the system each time, and every page of the next one is cleared anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)
