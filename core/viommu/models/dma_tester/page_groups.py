"""Groups of page requests that a tester has under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.faults import Access
    from viommu.modelspecs import Bus
    from viommu.platform import ResponseCode

GROUPS = 512


@define(eq=False)
class PageGroups:
    """Their numbers, which go round: one that was answered is taken again last. ``sent`` and ``answered`` count."""

    sent: int = 0
    answered: int = 0
    _free: list[int] = field(factory=lambda: list(range(GROUPS)))

    def ask(
        self,
        bus: Bus,
        pages: Sequence[int],
        access: Access,
        pasid: int | None,
        answered: Callable[[ResponseCode], None],
    ) -> bool:
        """Ask for pages, in one group; False where the device cannot."""
        if not self._free:
            return False
        number = self._free.pop(0)

        def done(code: ResponseCode) -> None:
            self.answered += 1
            self._free.append(number)
            answered(code)

        for page in pages:
            if not bus.request_page(page, access, done if page == pages[-1] else None, pasid, number):
                self._free.append(number)
                return False
            self.sent += 1
        return True
