"""The memory of a process that will be forked: laid out so that forking is quick, and that forks copy few pages of it.

A fork copies each page that it writes to. What it writes most is new objects, and these go where something was freed before, a few on each of many pages. So what is free is taken, and kept for
good: forks then find no holes, and their objects lie together on pages of their own.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

_MADV_COLLAPSE, _HUGE_PAGE_BYTES = 25, 2 * 1024 * 1024
#: CPython's own allocator takes blocks of up to 512 bytes, in steps of 16, from pools of 16 KiB with 48 bytes in front; what is larger comes from libc.
_STEP, _LARGEST, _POOL_BYTES, _POOL_HEAD = 16, 512, 16 * 1024, 48
#: Where memory is managed in another way, the end of the holes may not be seen.
_MOST_BYTES = 32 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[Any] = []


def settle() -> None:
    """Call it last, before the first fork. What was allocated until now is no garbage collector's any more: a fork that collects would write to, and so copy, every page of it."""
    gc.collect()
    _fill_pools()
    _fill_libc()
    gc.freeze()
    _collapse()


def _fill_pools() -> None:
    for size in range(_STEP, _LARGEST + 1, _STEP):
        count = (_POOL_BYTES - _POOL_HEAD) // size
        taken = fresh = 0
        while fresh < 2 and taken < _MOST_BYTES:
            # No numbers while these are made: they are blocks too.
            batch = [make() for make in repeat(_maker(size), count)]
            # As good as all one right behind the other: nothing had been freed there.
            fresh += sum(id(after) - id(one) != size for one, after in pairwise(batch)) <= count // 8
            _kept.append(batch)
            taken += size * count


def _maker(size: int) -> Callable[[], object]:
    """What makes an object of that size, or one that takes a block of it."""
    if size == 16:
        return object
    return partial(float, "1.5") if size == 32 else partial(bytes, size - b"".__sizeof__())


class _MallocInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def _fill_libc() -> None:
    """What is free below the end of the heap."""
    if not hasattr(_libc, "mallinfo2"):
        return
    _libc.mallinfo2.restype = _MallocInfo
    _libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    _libc.free.argtypes = [ctypes.c_void_p]
    _libc.sbrk.restype, _libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    end = _libc.sbrk(0) - _libc.mallinfo2().keepcost
    taken = 0
    for size in (*(128 * 1024 >> step for step in range(1, 8)), *range(_LARGEST + 128, _STEP, -_STEP)):
        while taken < _MOST_BYTES:
            at = _libc.malloc(size)
            if not at or at >= end:
                _libc.free(at)
                break
            taken += size


def _collapse() -> None:
    """Has the memory in huge pages where it lies together, so that forking copies one entry for 512. A fork that writes to one copies only the small page.

    Linux before 6.1, or a machine without that much memory in one piece, leaves things as they are.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if not permissions.startswith("rw") or inode != "0" or (name and name != ["[heap]"]):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        for address in range(-(-start // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES, end - _HUGE_PAGE_BYTES + 1, _HUGE_PAGE_BYTES):
            _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE_PAGE_BYTES), _MADV_COLLAPSE)
