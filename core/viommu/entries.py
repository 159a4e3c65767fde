"""Which layout an entry of a compiled format has, so that an explained walk can name its bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.spec import amd_v1, riscv, vmsav8, vtd_second_stage, x86_64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.layout import Descriptor


@frozen
class _Format:
    """Layouts from level 0 up; the last one serves all levels above. ``is_leaf`` is given (raw, level)."""

    tables: tuple[type[Descriptor], ...]
    leaves: tuple[type[Descriptor], ...]
    is_leaf: Callable[[int, int], bool]

    def layout(self, *, leaf: bool, level: int) -> type[Descriptor]:
        layouts = self.leaves if leaf else self.tables
        return layouts[min(level, len(layouts) - 1)]


def _is_block(raw: int, _level: int) -> bool:
    return raw & 3 == vmsav8.UpperType.BLOCK


def _has_page_size(raw: int, level: int) -> bool:
    return level <= 2 and bool(raw >> 7 & 1)


def _is_amd_page(raw: int, _level: int) -> bool:
    return raw >> 9 & 7 in {amd_v1.NextLevel.PAGE, amd_v1.NextLevel.PAGE_SIZE_IN_ADDRESS}


def _grants_anything(raw: int, _level: int) -> bool:
    return bool(raw & 0b1110)


_FORMATS: Mapping[str, _Format] = {
    "ArmStage1": _Format((vmsav8.ArmStage1Table,), (vmsav8.ArmStage1Page, vmsav8.ArmStage1Block), _is_block),
    "ArmStage2": _Format((vmsav8.ArmStage2Table,), (vmsav8.ArmStage2Page, vmsav8.ArmStage2Block), _is_block),
    "X86": _Format(
        (x86_64.X86Table, x86_64.X86Table, x86_64.X86Table, x86_64.X86UpperTable),
        (x86_64.X86Page4K, x86_64.X86Page2M, x86_64.X86Page1G),
        _has_page_size,
    ),
    "VtdSecondStage": _Format(
        (
            vtd_second_stage.SecondStageTable,
            vtd_second_stage.SecondStageTable,
            vtd_second_stage.SecondStageTable,
            vtd_second_stage.SecondStageUpperTable,
        ),
        (vtd_second_stage.SecondStagePage4K, vtd_second_stage.SecondStagePage2M, vtd_second_stage.SecondStagePage1G),
        _has_page_size,
    ),
    "AmdV1": _Format((amd_v1.AmdV1Table,), (amd_v1.AmdV1Leaf,), _is_amd_page),
    "Riscv": _Format((riscv.RiscvPointer,), (riscv.RiscvLeaf,), _grants_anything),
}


def entry_layout(format_name: str, verdict: str, level: int, raw: int = 0) -> type[Descriptor] | None:
    """Choose the layout of one entry of a walk (the fields of `_engine.Step`).

    ``format_name`` is the engine's class (``ArmStage1``), ``level`` neutral: 0 holds the smallest leaf. An entry
    whose verdict is ``fault`` is read as a leaf at level 0 and where ``raw`` has the form of one, else as a table.
    None for a format that has no layout of its own (``Described``).
    """
    entries = _FORMATS.get(format_name)
    if entries is None:
        return None
    leaf = verdict == "leaf" or (verdict == "fault" and (level == 0 or entries.is_leaf(raw, level)))
    return entries.layout(leaf=leaf, level=level)
