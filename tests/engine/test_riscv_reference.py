"""The RISC-V format against the official RISC-V IOMMU reference model's verdicts; rows with MSI tables are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from tests.oracle import walker
from tests.oracle.captured import DATA, load_memory, load_registers, load_rows
from tests.oracle.compare import EngineMemory, engine_context
from tests.oracle.riscv_iommu import Outcome, Refused, RiscvIommu, Walk, cause_of, iotval2_of
from tests.oracle.stage import EXECUTE, PRIVILEGED, READ, WRITE, bits
from viommu import _engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.oracle.memory import Memory
    from tests.oracle.walker import Context

CAPTURES = sorted(path.parent for path in (DATA / "captures-riscv").glob("*/manifest.json"))
RIGHTS = {"r": READ, "w": WRITE, "x": EXECUTE}
IOTVAL2 = slice(24, 32)


@frozen
class Verdict:
    """What became of one row. A page size of None is not compared."""

    cause: int = 0
    pa: int = 0
    page_size: int | None = None
    memory_type: int = 0
    iotval2: int = 0


def engine_walk(memory: Memory) -> Walk:
    """Walks by the engine that leave ``memory`` as it was."""
    beside = EngineMemory(memory)

    def walk(context: Context, address: int, access: int) -> Outcome:
        return _engine.explain_walk(beside.engine, engine_context(context), address, access)[0]

    return walk


def oracle_walk(memory: Memory) -> Walk:
    """Walks by the oracle that leave ``memory`` as it was."""

    def walk(context: Context, address: int, access: int) -> Outcome:
        result = walker.walk(memory, context, address, access)
        memory.undo()
        return result

    return walk


def resolved_memory_type(attrs1: int, attrs2: int) -> int:
    """PBMT of the first stage, where it says one, overrides the second's."""
    return attrs1 & 3 or attrs2 & 3


def judge(iommu: RiscvIommu, row: dict[str, str]) -> Verdict | None:
    """Our verdict on a row; None where an MSI table would decide."""
    access = RIGHTS[row["access"]] | (PRIVILEGED if row["priv"] == "s" else 0)
    process_id = int(row["pasid"], 16) if row["pasid"] else None
    try:
        setup = iommu.configure(int(row["rid"], 16), process_id, access)
    except Refused as refused:
        return Verdict(cause=refused.cause, iotval2=refused.iotval2)
    result = iommu.walk(setup.context, int(row["iova"], 16), access)
    is_final = not result.kind or (result.stage == 2 and not result.fault_class)
    if is_final and setup.is_interrupt_file(result.ipa):
        return None
    if result.kind:
        return Verdict(cause=cause_of(result, access), iotval2=iotval2_of(result))
    return Verdict(
        pa=result.pa, page_size=1 << result.page_lg2, memory_type=resolved_memory_type(result.attrs1, result.attrs2)
    )


def recorded(row: dict[str, str], ours: Verdict) -> Verdict:
    """The reference model's verdict, with our word for what the row does not say."""
    if row["outcome"] == "fault":
        iotval2 = ours.iotval2
        if row["record"]:
            told = int.from_bytes(bytes.fromhex(row["record"])[IOTVAL2], "little")
            mask = int.from_bytes(bytes.fromhex(row["record_mask"])[IOTVAL2], "little")
            iotval2 = told & mask | ours.iotval2 & ~mask & bits(63, 0)
        return Verdict(cause=int(row["fault"], 16), iotval2=iotval2)
    return Verdict(
        pa=int(row["pa"], 16),
        page_size=int(row["page_size"], 16) if row["page_size"] else ours.page_size,
        memory_type=int(row["pbmt"] or "0", 16),
    )


@pytest.mark.parametrize("walks_of", [engine_walk, oracle_walk], ids=["engine", "oracle"])
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_every_row_ends_as_the_reference_model_says(capture: Path, walks_of: Callable[[Memory], Walk]) -> None:
    memory = load_memory(capture)
    iommu = RiscvIommu(memory, load_registers(capture), walks_of(memory))
    judged = [(row, judge(iommu, row)) for row in load_rows(capture)]
    wrong = [(row, ours) for row, ours in judged if ours is not None and ours != recorded(row, ours)]
    assert not wrong, f"{len(wrong)} of {len(judged)}: {wrong[:3]}"
