"""Stalled accesses: which tags wait for software (IHI 0070, 3.12.2)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import RequesterId
from viommu.platform import StallResolution
from viommu_smmuv3_cmdqv.spec.registers import StallModel

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

TAGS = 1 << 16
"""STAG has 16 bits."""


@define(eq=False)
class Stalls:
    """Gives each stalled access a tag that no other one has."""

    chip: Silicon
    held: dict[int, int] = field(factory=dict)
    """Tag -> StreamID."""
    _returned: deque[int] = field(factory=deque)
    _untouched: int = 0

    def next_tag(self) -> int | None:
        """The tag that the next stalled access gets; None: no more may stall, and it ends instead."""
        features = self.chip.features
        if features.idr0.STALL_MODEL == StallModel.NO_STALL or len(self.held) >= (features.idr5.STALL_MAX or TAGS):
            return None
        if self._returned:
            return self._returned[0]
        return self._untouched if self._untouched < TAGS else None

    def hold(self, stream: int, tag: int) -> None:
        """Take the tag that `next_tag` gave."""
        if self._returned:
            self._returned.popleft()
        else:
            self._untouched += 1
        self.held[tag] = stream

    def resume(self, stream: int, tag: int, *, retry: bool, abort: bool) -> None:
        """End the wait of one access; of one that does not wait, nothing."""
        if self.held.get(tag) != stream:
            return
        self._forget(tag)
        self.chip.platform.resolve_stall(StallResolution(RequesterId(stream), tag, retry, abort))

    def terminate(self, stream: int) -> None:
        """End the wait of all accesses of a stream, with aborts."""
        for tag in [tag for tag, holder in self.held.items() if holder == stream]:
            self._forget(tag)
        self.chip.platform.resolve_stall(StallResolution(RequesterId(stream), None, retry=False, abort=True))

    def _forget(self, tag: int) -> None:
        del self.held[tag]
        self._returned.append(tag)
