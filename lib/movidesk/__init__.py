"""movidesk-agi: Asterisk calls, Movidesk decides, and every call ends as a complete ticket."""

from __future__ import annotations

from _thread import allocate_lock

__all__ = ["NamedTuple", "__version__", "sleep"]
__version__ = "0.1.0"

TYPE_CHECKING = False  # a type checker takes this name for True
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Fields(type):
        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body["__annotations__"]
            made = namedtuple(name, fields, defaults=[body[field] for field in fields if field in body],
                              module=body["__module__"])
            made.__doc__ = body.get("__doc__")
            return made

    class NamedTuple(metaclass=_Fields):
        """typing.NamedTuple for modules that scripts load, without the 3 ms that typing costs: no methods, no generics.

        The module needs `from __future__ import annotations`.
        """


def sleep(seconds: float) -> None:
    """Sleep, by waiting for a lock: time.sleep fails under libfaketime, with which bench/faults.py changes clocks."""
    never = allocate_lock()
    never.acquire()
    never.acquire(timeout=seconds)
