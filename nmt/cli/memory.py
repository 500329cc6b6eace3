"""How this process holds memory, on Linux with glibc and where oneDNN makes the products; elsewhere nothing changes."""

import ctypes
import os
import platform

# Products prepared for one shape each, with code of its own (half a megabyte; with AMX 1 to 3.5), are kept by oneDNN,
# and those of search by torch's layer above it too: 1,024 in either. What an epoch's batches need, of few sizes as they
# are, fits into the first number; what the layer above has forgotten oneDNN still knows.
_ONEDNN, _ABOVE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"
_KEPT = {_ONEDNN: 256, _ABOVE: 64}
# by which names the environment may give either
_NAMES = {_ONEDNN: (_ONEDNN, "DNNL_PRIMITIVE_CACHE_CAPACITY"), _ABOVE: (_ABOVE,)}

# numbers of options in glibc's malloc.h, and values: what was freed stays with the process, up to a gigabyte, and
# blocks of up to 32 MB (the most that is accepted) come from there, so that a step's pages are not new ones each time
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OPTIONS = {_TRIM_THRESHOLD: 1 << 30, _MMAP_THRESHOLD: 1 << 25}
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD")


def set_limits() -> None:
    """Bound what is kept of prepared products, let malloc keep what it has; what the environment says of these stands.

    To be called before the first product, when these settings are read.
    """
    for setting, kept in _KEPT.items():
        if not any(name in os.environ for name in _NAMES[setting]):
            os.environ[setting] = str(kept)
    if _is_glibc() and not any(name in os.environ for name in _VARIABLES):
        library = ctypes.CDLL(None)
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)


def give_back() -> None:
    """Return to the system what malloc keeps but nothing uses; without glibc nothing happens."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
