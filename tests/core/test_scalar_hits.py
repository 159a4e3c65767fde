"""A scalar `translate` that hits is answered by the engine alone, and nobody can tell."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.toy import Guest, ToyDriver
from viommu import Access, Iotlb, Machine, Translation
from viommu.addresses import Pa
from viommu.drivers import bind_plugin
from viommu.errors import BadValue, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.instance.iommu import Iommu
    from viommu.translation import Outcome

PAGE = 4096
R, W = Access.READ, Access.WRITE
RIGHTS = [Access(bits) for bits in range(8)]
DEVICES = (3, 3, 3, 4, 9)
"""Of the toy: translated, passing through, refused."""


def machine_of(guest: Guest, *, sanitize: bool = False) -> Machine:
    return Machine(bind_plugin(ToyDriver()), guest.memory, guest.registers, iotlb=Iotlb(), sanitize=sanitize)


def at_length(machine: Iommu) -> Callable[..., object]:
    """``translate`` without what stands before it."""
    method = inspect.unwrap(Machine.translate)
    return lambda *asked: method(machine, *asked)


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    for page in range(8):
        made.map(0x5000 + page * PAGE, 0x8000_0000 + page * 3 * PAGE, writable=page != 3)
    return made


def test_a_hit_never_reaches_the_method(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_of(guest)
    translator = machine.translator
    first = machine.translate(3, 0x5010)

    monkeypatch.setattr(machine, "_lookups", None)  # which the method needs

    assert machine.translate(3, 0x5010) == first
    assert machine.translate(3, iova=0x5010, access=R, pasid=None) == first
    assert translator.counters()["hits"] == 2


@given(
    asked=st.lists(
        st.tuples(st.sampled_from(DEVICES), st.integers(0x4000, 0xE000), st.integers(1, 15), st.none() | st.just(2)),
        max_size=60,
    )
)
def test_whoever_asks_by_the_long_way_is_told_the_same(asked: list[tuple[int, int, int, int | None]]) -> None:
    guests = Guest(), Guest()
    for guest in guests:
        for page in range(6):
            guest.map(0x5000 + page * PAGE, 0x8000_0000 + page * 3 * PAGE, writable=page != 3)
    short, long = (machine_of(guest) for guest in guests)
    ask_at_length = at_length(long)

    for requester, iova, access, pasid in asked:
        if access & 7:
            arguments = (requester, iova, Access(access), pasid)
            assert short.translate(*arguments) == ask_at_length(*arguments)

    assert short.translator.counters() == long.translator.counters()


WRONG: list[tuple[Any, ...]] = [
    (0x100, 0x5000, R),
    (-1, 0x5000, R),
    (3, 1 << 64, R),
    (3, 0x5000, 0),
    (3, 0x5000, 8),
    (3, 0x5000, 16),
    (3, 0x5000, 257),
    (3, 0x5000, R, 16),
    (3, 0x5000, R, -1),
    (3, 0x5000, R, 0xFFFF_FFFF),
    (3, 0x5000, R, "x"),
    (3.0, 0x5000, R),
    (3, "5", R),
]


@pytest.mark.parametrize("asked", WRONG)
def test_what_cannot_be_asked_is_refused_after_a_hit_too(guest: Guest, asked: tuple[Any, ...]) -> None:
    machine = machine_of(guest)
    machine.translate(3, 0x5000)

    with pytest.raises((BadValue, OutOfRange)):
        machine.translate(*asked)


@pytest.mark.parametrize(
    ("positional", "named"),
    [((), {}), ((3,), {}), ((3, 0x5000, R, None, 5), {}), ((3, 0x5000), {"iova": 1}), ((3, 0x5000), {"size": 1})],
)
def test_wrong_arguments_are_told_by_python(guest: Guest, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    machine = machine_of(guest)
    machine.translate(3, 0x5000)

    with pytest.raises(TypeError, match=r"translate\(\)"):
        machine.translate(*positional, **named)


def test_a_right_that_is_lacking_is_still_a_fault(guest: Guest) -> None:
    machine = machine_of(guest)

    outcomes = [type(machine.translate(3, 0x8000, access)).__name__ for access in (R, R, W, R, W)]

    assert outcomes == ["Translation", "Translation", "Fault", "Translation", "Fault"]


def test_a_sanitizer_sees_every_access(guest: Guest) -> None:
    machine = machine_of(guest, sanitize=True)
    for _ in range(3):
        machine.translate(3, 0x5000)
    guest.map(0x5000, 0x9000_0000)

    machine.translate(3, 0x5000)

    assert machine.sanitizer is not None
    assert len(machine.sanitizer.reports) == 1


def test_what_an_heir_overrides_is_asked(guest: Guest) -> None:
    class Heir(Machine):
        asked = 0

        def translate(
            self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None
        ) -> Outcome:
            self.asked += 1
            return super().translate(requester, iova, access, pasid)

    machine = Heir(bind_plugin(ToyDriver()), guest.memory, guest.registers, iotlb=Iotlb())

    assert machine.translate(3, 0x5000) == machine.translate(3, 0x5000)
    assert machine.asked == 2


def test_the_method_is_documented_as_if_nothing_stood_before_it() -> None:
    assert list(inspect.signature(Machine.translate).parameters) == ["self", "requester", "iova", "access", "pasid"]
    assert (Machine.translate.__name__, Machine.translate.__module__) == ("translate", "viommu.instance.iommu")
    assert "Send one access" in (inspect.getdoc(Machine.translate) or "")


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 63), st.sampled_from(RIGHTS), st.integers(0, 255))
def test_a_translation_is_a_value(number: int, page_lg2: int, rights: Access, attrs: int) -> None:
    made = Translation(number, number ^ 1, 1 << page_lg2, rights, number ^ 2, attrs, attrs ^ 255)

    assert (made.iova, made.pa, made.page_size, made.ipa) == (number, number ^ 1, 1 << page_lg2, number ^ 2)
    assert (made.rights, made.attrs1, made.attrs2) == (rights, attrs, attrs ^ 255)
    kept = pickle.loads(pickle.dumps(made))  # noqa: S301
    for same in (kept, copy.copy(made), copy.deepcopy(made)):
        assert same == made
        assert hash(same) == hash(made)
    assert made != Translation(number, number ^ 1, 1 << page_lg2, rights, number ^ 2, attrs ^ 1, attrs ^ 255)
    assert made.__eq__(number) is NotImplemented


def test_a_translation_is_told_matched_and_left_as_it_is() -> None:
    made = Translation(0x1234, 0x5234, PAGE, R | W, 0x5234)

    assert repr(made) == (
        "Translation(iova=0x1234, pa=0x5234, page_size=0x1000, rights=<Access.READ|WRITE: 3>, ipa=0x5234, "
        "attrs1=0, attrs2=0)"
    )
    match made:
        case Translation(iova, pa, page_size, rights):
            assert (iova, pa, page_size, rights) == (0x1234, 0x5234, PAGE, R | W)
    assert isinstance(made.rights, Access)
    assert Translation(0, 0, 0, R, 0).untranslated
    with pytest.raises(AttributeError):
        made.pa = Pa(0)  # type: ignore[misc]
    for wrong in ((-1, 0, PAGE), (0, 1 << 64, PAGE), (0, 0, 3), (0, 0, 1 << 64)):
        with pytest.raises(ValueError, match=r"Translation: (iova|pa|page_size)"):
            Translation(*wrong, R, 0)
    with pytest.raises(TypeError, match="Translation: pa is a whole number"):
        Translation(0, "0x1000", PAGE, R, 0)  # type: ignore[arg-type]
