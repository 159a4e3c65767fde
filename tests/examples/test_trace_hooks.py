"""The observer sees every call of a hook, and changes nothing."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from examples.trace_hooks import HOOKS, Trace, main, shown
from viommu import Machine
from viommu.kernel_errors import KernelError


def traced(driver: str, *, wrong: bool = False) -> list[dict[str, Any]]:
    file = io.StringIO()
    with Machine(driver, memory="16M", wrappers=[Trace(file)]) as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(0x10))
        ioas = iommu.ioas_alloc()
        if wrong:
            with pytest.raises(KernelError):
                device.hw_info(0x7777)
        device.attach(ioas)
        ioas.map(machine.buffer("2M"), iova=0)
        assert device.dma_write(0x1000, b"traced") is None
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("driver", ["amd_viommu", "smmuv3_cmdqv", "vtd"])
def test_calls_are_told_with_what_they_were_given_and_gave(driver: str) -> None:
    calls = traced(driver)

    assert {call["hook"] for call in calls} <= set(HOOKS)
    (attach,) = (call for call in calls if call["hook"] == "viommu_attach")
    assert list(attach["given"]) == ["device", "pasid", "domain", "old", "page_requests"]
    assert (attach["given"]["pasid"], attach["gave"]) == ("0", "None")
    assert all(call["ns"] > 0 for call in calls)


def test_hooks_that_run_inside_others_are_deeper() -> None:
    depths = {call["hook"]: call["depth"] for call in traced("vtd")}

    assert depths["viommu_observe"] > depths["viommu_probe"] == 0


def test_what_a_hook_raises_is_told_and_raised() -> None:
    raised = [call for call in traced("vtd", wrong=True) if "raised" in call]

    assert [call["hook"] for call in raised] == ["viommu_hw_info"]
    assert "0x7777" in raised[0]["raised"]


def test_what_cannot_be_shown_does_no_harm() -> None:
    class Unfinished:
        def __repr__(self) -> str:
            raise AttributeError("name")

    assert shown(Unfinished()) == "<Unfinished, whose repr raises AttributeError>"


def test_the_example_shows_the_way_of_an_attachment(capsys: pytest.CaptureFixture[str]) -> None:
    main("vtd")

    hooks = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    in_order = [hook for hook in hooks if hook != "viommu_observe"]
    assert in_order.index("viommu_probe") < in_order.index("viommu_alloc_paging") < in_order.index("viommu_attach")
    assert in_order[-2:] == ["viommu_detach", "viommu_free_domain"]
