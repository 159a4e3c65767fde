"""What a machine puts around its hardware model: the `viommu.platform.Platform` that models act upon."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import structlog
from attrs import define, field

if TYPE_CHECKING:
    from viommu.devices import Device
    from viommu.memory import PhysicalMemory
    from viommu.platform import BadAnswer, Caches, DeviceInvalidation, Interrupt, PageResponse, StallResolution

__all__ = [
    "Observer",
]

Observer: TypeAlias = Callable[[str, Mapping[str, object]], None]
"""Is told a dotted name and its facts."""

MESSAGE_BYTES = 4
"""An interrupt message stores 32 bits."""

log = structlog.get_logger("viommu.hardware")


class _NoCaches:
    """What stands in for the engine while a model is being made: there is nothing to invalidate yet."""

    def __getattr__(self, verb: str) -> Callable[..., None]:
        return lambda *_, **__: None


@define(eq=False, repr=False)
class Board:
    """One machine's platform. What the user's callables raise is theirs to catch.

    ``on_interrupt`` is called with each interrupt, or is an eventfd to which each adds one; ``handler``, the host
    driver's, is called after it for those that are the host's. ``observers`` see what `observe` is told;
    ``command_counts`` keeps how many commands of each kind were executed.
    """

    memory: PhysicalMemory
    on_interrupt: Callable[[Interrupt], None] | int | None = None
    observers: tuple[Observer, ...] = ()
    on_stall_resolved: Callable[[StallResolution], None] | None = None
    handler: Callable[[Interrupt], None] | None = None
    caches: Caches = field(factory=_NoCaches)
    devices: dict[int, Device] = field(factory=dict)
    command_counts: Counter[str] = field(factory=Counter)

    def interrupt(self, interrupt: Interrupt) -> None:
        """Store the message, if it is one, and tell the user."""
        if interrupt.address is not None and interrupt.data is not None:
            self.memory.write(interrupt.address, interrupt.data.to_bytes(MESSAGE_BYTES, "little"))
        if isinstance(self.on_interrupt, int):
            os.eventfd_write(self.on_interrupt, 1)
        elif self.on_interrupt is not None:
            self.on_interrupt(interrupt)
        if self.handler is not None and interrupt.guest is None:
            self.handler(interrupt)

    def invalidate_device(self, invalidation: DeviceInvalidation) -> bool | BadAnswer:
        """Pass it to the device; where there is none, nothing holds translations and nothing is waited for."""
        device = self.devices.get(invalidation.requester)
        return device is None or device.invalidate(invalidation)

    def respond(self, response: PageResponse) -> None:
        """Pass it to the device, if there is one."""
        device = self.devices.get(response.requester)
        if device is not None:
            device.responded(response)

    def resolve_stall(self, resolution: StallResolution) -> None:
        """Pass it to the machine."""
        if self.on_stall_resolved is not None:
            self.on_stall_resolved(resolution)

    def observe(self, event: str, facts: Mapping[str, object]) -> None:
        """Count commands, log at debug level where logging was set up, and tell the observers."""
        kinds = facts.get("kinds")
        if isinstance(kinds, dict):  # as models have it; asking for any Mapping, and `update`, take longer
            for name, count in kinds.items():
                self.command_counts[name] += count
        elif isinstance(kinds, Mapping):
            self.command_counts.update(kinds)
        if structlog.is_configured():  # else structlog would print debug lines to standard output
            log.debug(event, **facts)
        for observer in self.observers:
            observer(event, facts)
