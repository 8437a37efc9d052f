"""Inner loops in machine code: one decorator with casa's options, and their compilation before the first frame.

A kernel lies beside its only user. It may call kernels of its own module only: the cache on disk is made anew when a
kernel's own file changes, not when another's does. See docs/decisions/007-numba.md.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

#: A compilation that is done sooner is not worth a line.
_QUIET_S = 2.0


def kernel(function: Function) -> Function:
    """Compile a function of numbers and arrays when it is first called; its machine code is kept on disk.

    It runs without Python's lock, in IEEE arithmetic in the order in which it is written (no ``fastmath``), and a
    division by zero gives inf or NaN as in NumPy. Nothing checks bounds.
    """
    compiler: Any = numba.njit  # typed as the function it stands for: what it is compiled to is nobody's business
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return compiler(cache=True, **options)(function)
    except RuntimeError:  # neither the installation nor the user's cache folder can be written to
        return compiler(**options)(function)


def warm_up(*calls: Callable[[], object]) -> None:
    """Make the calls, which use kernels as later ones will, so that no frame waits for the compiler.

    Arrays are to be of the types that come later: a read-only, or a not contiguous array is another type. Says so on a
    terminal when it takes long, which it does only the first time.
    """
    late = threading.Timer(_QUIET_S, _say_so)
    late.start()
    try:
        for call in calls:
            call()
    finally:
        late.cancel()
        late.join()


def _say_so() -> None:
    if sys.stderr.isatty():
        print("compiling inner loops (first time only)", file=sys.stderr)
