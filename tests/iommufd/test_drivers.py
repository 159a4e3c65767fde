"""Drivers that break their promises, lack hooks or are wrapped."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.iommufd.client import SELFTEST_VIOMMU, Client
from viommu import hookimpl
from viommu.drivers import bind_plugin
from viommu.errors import DriverBug
from viommu.iommufd import uapi
from viommu.objects.physical import PhysicalIommu
from viommu.ops import DeviceFacts
from viommu.selftest import device_ops, driver

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

NEST_PARENT = 1


def machine(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, object]], object],
    wrappers: Iterable[object] = (),
) -> Client:
    """A client of a mock driver that was changed; it has a nesting parent."""
    hooks = {name: value for name, value in vars(driver).items() if name.startswith(("viommu_", "hookspec_"))}
    change(hooks)
    iommu = PhysicalIommu("changed", bind_plugin(SimpleNamespace(**hooks, __name__="changed"), wrappers))
    monkeypatch.setattr(device_ops, "mock_iommu", lambda: iommu)
    return Client()


def parent_of(client: Client) -> tuple[int, int]:
    ioas = client.ioas()
    _, _, device = client.device(ioas)
    return device, client.hwpt(device, ioas, NEST_PARENT)


def test_what_is_foreign_is_told_as_the_driver_s_bug_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def viommu_init() -> None:
        raise ZeroDivisionError("in the driver")

    client = machine(monkeypatch, lambda hooks: hooks.update(viommu_init=viommu_init))
    device, parent = parent_of(client)
    with pytest.raises(DriverBug, match="selftest broke its promise in viommu_init: ZeroDivisionError"):
        client.viommu(device, parent)
    assert client.destroy(parent) == 0
    assert client.must(uapi.IoasAlloc.of()).out_ioas_id == parent


def test_a_driver_without_viommus_refuses_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    client = machine(monkeypatch, lambda hooks: hooks.pop("viommu_supports"))
    client.viommu(*parent_of(client))
    assert client.result == -errno.EOPNOTSUPP


@pytest.mark.parametrize("hook", ["viommu_alloc_nested", "viommu_invalidate_nested", "viommu_invalidate"])
def test_what_a_driver_does_not_implement_is_not_supported(monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    client = machine(monkeypatch, lambda hooks: hooks.pop(hook))
    device, parent = parent_of(client)
    nested = client.hwpt(device, parent, data=bytes(4))
    if hook != "viommu_alloc_nested":
        target = client.viommu(device, parent) if hook == "viommu_invalidate" else nested
        client.call(uapi.HwptInvalidate.of(hwpt_id=target, data_type=SELFTEST_VIOMMU))
    assert client.result == -errno.EOPNOTSUPP


def test_a_wrapper_sees_each_call_and_may_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    @hookimpl(wrapper=True)
    def viommu_supports(viommu_type: int) -> Generator[None, object, object]:
        answer = yield
        seen.append(viommu_type)
        return answer and len(seen) > 1

    client = machine(monkeypatch, lambda _: None, [SimpleNamespace(viommu_supports=viommu_supports)])
    device, parent = parent_of(client)
    client.viommu(device, parent)
    assert client.result == -errno.EOPNOTSUPP
    client.viommu(device, parent)
    assert (client.result, seen) == (0, [SELFTEST_VIOMMU, SELFTEST_VIOMMU])


def test_devices_whose_dma_is_not_coherent_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def viommu_device_facts() -> DeviceFacts:
        return DeviceFacts(cache_coherent=False)

    client = machine(monkeypatch, lambda hooks: hooks.update(viommu_device_facts=viommu_device_facts))
    client.test(2, client.ioas())
    assert client.result == -errno.EINVAL
