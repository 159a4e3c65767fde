"""An observer: a plugin of wrappers which writes every call of a driver's hooks to a file, a line of JSON each.

pluggy has two kinds of implementations. A driver's answer; wrappers stand around whoever answers, see what goes in and
what comes out, and may change it. These change nothing. Give them to any machine: ``Machine(..., wrappers=[...])``.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import threading
from functools import wraps
from time import perf_counter_ns
from typing import IO, TYPE_CHECKING

from viommu import Machine, hookimpl, hookspecs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

HOOKS = [name for name in hookspecs.__all__ if name.startswith("viommu_")]


class Depths(threading.local):
    """How many hooks the thread is in."""

    depth = 0


def shown(value: object) -> str:
    """Write a value, whatever state it is in: a hook may be given an object that is not whole yet."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - an observer must not change what it sees
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


class Trace:
    """Has a wrapper for every hook there is. Lines are whole: each is written at once, when the call ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._depths = file, Depths()
        for name in HOOKS:
            setattr(self, name, self._wrapper(name))

    def _wrapper(self, name: str) -> Callable[..., object]:
        hook = getattr(hookspecs, name)
        names = tuple(inspect.signature(hook).parameters)

        @hookimpl(wrapper=True)
        @wraps(hook)  # pluggy asks a function for the names of its parameters, and hands it those alone
        def traced(*given: object) -> Generator[None, object, object]:
            began, depth = perf_counter_ns(), self._depths.depth
            self._depths.depth += 1
            told: dict[str, object] = {}
            try:
                result = yield
                told["gave"] = shown(result)
            except Exception as error:
                told["raised"] = shown(error)
                raise
            finally:
                self._depths.depth -= 1
                arguments = {key: shown(value) for key, value in zip(names, given, strict=True)}
                took = perf_counter_ns() - began
                self._write({"hook": name, "depth": depth, "given": arguments, **told, "ns": took})
            return result

        return traced

    def _write(self, call: dict[str, object]) -> None:
        self._file.write(json.dumps(call) + "\n")


def main(driver: str = "vtd") -> None:
    """Let a device be attached to an IOAS and write through it; show which hooks that called."""
    with tempfile.TemporaryFile("w+") as file:
        with Machine(driver, memory="16M", wrappers=[Trace(file)]) as machine, machine.open_iommufd() as iommu:
            device = iommu.bind(machine.add_device(0x10))
            ioas = iommu.ioas_alloc()
            device.attach(ioas)
            ioas.map(machine.buffer("2M"), iova=0)
            device.dma_write(0x1000, b"traced")
        file.seek(0)
        for call in map(json.loads, file):
            what = f"gave {call['gave']}" if "gave" in call else f"raised {call['raised']}"
            print(f"{'  ' * call['depth']}{call['hook']}  {what[:60]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
