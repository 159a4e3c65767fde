"""A driver that refuses at its 1st, 2nd, ... n-th call leaves nothing behind; what a driver began, the core ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.iommufd.client import APERTURE, PAGE, Client
from tests.iommufd.ground import Ground
from tests.iommufd.scenarios import SCENARIOS, SWALLOW
from tests.iommufd.state import differences, pins_of, state_of
from viommu.drivers import BoundDriver
from viommu.errors import DriverBug
from viommu.kernel_errors import NoMemory
from viommu.selftest.page_table import MockPageTable

if TYPE_CHECKING:
    from collections.abc import Callable

MAY_REFUSE = frozenset(
    {
        *("viommu_alloc_paging", "viommu_alloc_nested", "viommu_alloc_nested_on", "viommu_init", "viommu_vdevice_init"),
        *("viommu_attach", "viommu_hw_queue_init", "viommu_hw_info", "viommu_set_dirty_tracking", "viommu_invalidate"),
        *("viommu_invalidate_nested", "viommu_set_stage2", "viommu_invalidate_device_tlb"),
    }
)

ENDS = {
    "viommu_free_domain": ("viommu_alloc_paging", "viommu_alloc_nested", "viommu_alloc_nested_on"),
    "viommu_destroy": ("viommu_init",),
    "viommu_vdevice_destroy": ("viommu_vdevice_init",),
    "viommu_hw_queue_destroy": ("viommu_hw_queue_init",),
}
"""Which hook ends what others began."""

CALLS = 100
"""More calls to a driver than any ioctl makes."""


class Refusals:
    """Counts what drivers are asked, and lets the n-th call after `arm` fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: Counter[str] = Counter()
        self.left = 0
        self.happened = False
        ask, fill = BoundDriver._ask, MockPageTable.map
        monkeypatch.setattr(BoundDriver, "_ask", self._watched_ask(ask))
        monkeypatch.setattr(MockPageTable, "map", self._watched_map(fill))

    def arm(self, nth: int) -> None:
        self.left, self.happened = nth, False

    def _watched_ask(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(driver: BoundDriver, hook: str, **arguments: object) -> Any:  # noqa: ANN401 - any hook's
            if hook in MAY_REFUSE:
                self.perhaps(hook)
            value = ask(driver, hook, **arguments)
            self.done[hook] += 1
            return value

        return asked

    def _watched_map(self, fill: Callable[..., None]) -> Callable[..., None]:
        def mapped(*arguments: object) -> None:
            self.perhaps("map")
            fill(*arguments)

        return mapped

    def perhaps(self, what: str) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                self.happened = True
                raise NoMemory("driver", what, bound="a refusal that a test wants")


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_a_driver_refuses_leaves_nothing_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = Refusals(monkeypatch)
    for nth in range(1, CALLS):
        refusals.done.clear()
        ground = Ground()
        client = ground.client
        act = SCENARIOS[name](ground)
        before = state_of(client)
        refusals.arm(nth)
        act()
        refusals.left = 0
        result = client.result
        if refusals.happened:
            assert result < 0 or name in SWALLOW, f"refusal {nth} is swallowed"
            assert result >= 0 or not differences(before, state_of(client)), f"refusal {nth} leaves traces"
        client.close()
        assert not pins_of(client)
        for end, begins in ENDS.items():
            assert refusals.done[end] == sum(refusals.done[begin] for begin in begins), end
        if not refusals.happened:
            return
    pytest.fail("an ioctl without end of calls to its driver")


@pytest.mark.parametrize("is_attached", [True, False], ids=["while it follows", "when it is to follow"])
def test_a_page_table_that_raises_something_foreign_is_its_drivers_bug(
    is_attached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    ioas = client.ioas()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the driver's own making")

    if is_attached:
        client.device(ioas)
    else:
        client.map(ioas, APERTURE)
    before = state_of(client)
    with monkeypatch.context() as patch:
        patch.setattr(MockPageTable, "map", broken)
        with pytest.raises(DriverBug, match=r"driver selftest .* PagingDomain"):
            client.map(ioas, APERTURE + PAGE) if is_attached else client.device(ioas)
    assert not differences(before, state_of(client))
    client.close()
    assert not pins_of(client)
