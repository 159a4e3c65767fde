"""Commands from raw bytes: decoded and executed on caches that hold what they are about."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, cast

from attrs import define, frozen

from tools.bench import tables
from tools.bench.paths import Path
from tools.bench.tables import DATA, PAGE, RANGE, Tables
from tools.bench.toy import machine
from viommu import Iotlb, PhysicalMemory
from viommu.commands import CommandTable, Executor
from viommu.formats import Context, VtdSecondStage
from viommu_amd_viommu.spec import command_meanings as amd_meanings
from viommu_amd_viommu.spec import commands as amd_spec
from viommu_smmuv3_cmdqv.spec import commands as smmu
from viommu_smmuv3_cmdqv.spec.command_meanings import CommandAbilities
from viommu_smmuv3_cmdqv.spec.command_meanings import meanings as smmu_meanings
from viommu_vtd.spec import command_meanings as vtd_meanings
from viommu_vtd.spec import commands as vtd

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.commands import Meanings
    from viommu.layout import Descriptor
    from viommu.platform import Platform

SPACE, DOMAIN, REQUESTER = 7, 5, 3
"""An ASID, and a VMID or domain."""
MAMV = 18
"""VT-d: log2 of the most pages that one descriptor may name."""
PAGES, CALLS = 1024, 64
RUNS = (64, 1024)
"""Commands of a call."""


@define
class Caches:
    """As much of a platform as executes commands: an engine whose caches are warm."""

    memory: PhysicalMemory
    caches: object
    warm: Callable[[], None]

    @classmethod
    def of(cls, *, nested_tags: bool) -> Caches:
        """Map and cache pages: of an address space in a domain, or of the domain itself."""
        made = Tables.roomy(PAGES)
        root = made.take(1)
        made.map(root, RANGE, DATA, PAGES)
        memory = made.memory()
        if nested_tags:
            context = Context(stage1=tables.x86(root), stage1_tag=SPACE, stage2_tag=DOMAIN)
        else:
            context = Context(stage2=VtdSecondStage(table=root, levels=4), stage2_tag=DOMAIN)
        translator = machine(memory, context, Iotlb(entries=2 * PAGES)).translator

        def warm() -> None:
            for page in range(PAGES):
                translator.translate(REQUESTER, RANGE + page * PAGE, 1)

        warm()
        return cls(memory, translator, warm)


@frozen
class Mix:
    """What software sends: of sixteen commands thirteen for a page, two for all of a space, one other."""

    page: Callable[[int], Descriptor]
    space: Descriptor
    other: Descriptor

    def raw(self, count: int) -> bytes:
        """Give so many commands, as they lie in a queue."""
        return b"".join(self._command(index).encode() for index in range(count))

    def _command(self, index: int) -> Descriptor:
        kind = index % 16
        return self.other if kind == 15 else self.space if kind > 12 else self.page(RANGE + index % PAGES * PAGE)


def vendor(name: str, caches: Caches, meanings: Meanings, mix: Mix) -> list[Path]:
    """Give the paths of one vendor's queue. Refuses to measure commands that are left to the model."""
    executor = Executor(cast("Platform", caches), meanings)

    def execute(raw: bytes, count: int) -> int:
        for _ in range(CALLS):
            executor.run(raw)
        return CALLS * count

    paths = []
    for count in RUNS:
        raw = mix.raw(count)
        done, _ = executor.run(raw)
        assert done == count, (name, done)
        paths.append(Path(f"{name} commands, {count} a call", partial(execute, raw, count)))
    return paths


def smmu_mix() -> Mix:
    """Give the commands of an SMMUv3."""
    code = smmu.CommandOpcode
    return Mix(
        lambda at: smmu.TLBI_NH_VA(Opcode=code.TLBI_NH_VA, VMID=DOMAIN, ASID=SPACE, Address=at),
        smmu.TLBI_NH_ASID(Opcode=code.TLBI_NH_ASID, VMID=DOMAIN, ASID=SPACE),
        smmu.CFGI_STE(Opcode=code.CFGI_STE, SID=REQUESTER),
    )


def smmuv3() -> list[Path]:
    """Give the paths of an SMMUv3's command queue."""
    able = CommandAbilities(
        stage1=True,
        stage2=True,
        el2=False,
        wide_vmids=True,
        wide_asids=True,
        ranges=True,
        wildcard_lg2=0,
        el2_tags=(1 << 20, 1 << 21),
    )
    caches, mix = Caches.of(nested_tags=True), smmu_mix()
    executor = Executor(cast("Platform", caches), smmu_meanings(able))
    pages = b"".join(mix.page(RANGE + page * PAGE).encode() for page in range(PAGES))
    cached = Path("SMMUv3 commands, cached pages", lambda: executor.run(pages)[0], caches.warm)
    return [*vendor("SMMUv3", caches, smmu_meanings(able), mix), cached]


def amd() -> list[Path]:
    """Give the paths of an AMD IOMMU's command buffer.

    What forgets a device's entry is left to the hardware model: in its place there is a wait that tells nobody.
    """
    able = amd_meanings.CommandAbilities(guest_tables=False, prefetch=False)
    pages = partial(amd_spec.InvalidateIommuPages, Opcode=amd_spec.Opcode.INVALIDATE_IOMMU_PAGES, DomainID=DOMAIN)
    mix = Mix(
        lambda at: pages(Address=at),
        pages(S=1, Address=amd_meanings.EVERYTHING),
        amd_spec.CompletionWait(Opcode=amd_spec.Opcode.COMPLETION_WAIT),
    )
    return vendor("AMD", Caches.of(nested_tags=False), amd_meanings.meanings(able, CommandTable()), mix)


def vt_d() -> list[Path]:
    """Give the paths of a VT-d invalidation queue, whose domain has no nested translations."""
    able = vtd_meanings.CommandAbilities(wide=False, scalable=False, psi=True, mamv=MAMV, pds=False)
    kind = vtd.InvalidationType
    pages = partial(vtd.IotlbInvalidate, Type=kind.IOTLB, DID=DOMAIN)
    mix = Mix(
        lambda at: pages(G=vtd.IotlbGranularity.PAGE, ADDR=at),
        pages(G=vtd.IotlbGranularity.DOMAIN),
        vtd.ContextCacheInvalidate(
            Type=kind.CONTEXT_CACHE, G=vtd.ContextCacheGranularity.DEVICE, DID=DOMAIN, SID=REQUESTER
        ),
    )
    described = vtd_meanings.meanings(able, vtd_meanings.CommandTables(CommandTable(), CommandTable()))
    return vendor("VT-d", Caches.of(nested_tags=False), described, mix)


class PythonQueue:
    """The same in Python: SMMUv3 commands unpacked one by one, and a dict for an IOTLB."""

    def __init__(self) -> None:
        self._pages = {(DOMAIN, SPACE, RANGE + page * PAGE >> 12): page for page in range(PAGES)}
        self._since: dict[tuple[int, int], int] = {}
        self._devices = {REQUESTER: object()}
        self._now = 0

    def run(self, raw: bytes) -> int:
        """Execute every command."""
        for low, high in struct.iter_unpack("<QQ", raw):
            opcode = low & 0xFF
            if opcode == smmu.CommandOpcode.TLBI_NH_VA:
                self._pages.pop((low >> 32 & 0xFFFF, low >> 48, high >> 12), None)
            elif opcode == smmu.CommandOpcode.TLBI_NH_ASID:
                self._now += 1
                self._since[low >> 32 & 0xFFFF, low >> 48] = self._now
            elif opcode == smmu.CommandOpcode.CFGI_STE:
                self._devices.pop(low >> 32, None)
        return len(raw) // 16


def commands() -> list[Path]:
    """Give every vendor's paths, and what one writes without an engine."""
    return [*smmuv3(), *amd(), *vt_d(), Path("Python command", partial(PythonQueue().run, smmu_mix().raw(RUNS[-1])))]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give the group of commands."""
    return {"commands": commands}
