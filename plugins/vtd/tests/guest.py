"""Software that writes VT-d tables into memory by hand, and the hardware that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Access, Fault, Refusal, Report
from viommu.formats import Context, walk
from viommu.hookspecs import Registers
from viommu.translation import Translation, outcome_of, refused
from viommu_vtd.hardware import VtdHardware
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.registers import CAP, ECAP, GSTS, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory

RAM = 0x1_0000_0000
RAM_SIZE = 1 << 20
HOLE = 0x7000_0000

R, W = 1, 2
"""Second stage."""
P, RW, US, A, D, PS = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7
"""First stage."""
USED = P | RW | US | A
"""A first-stage entry that needs no store; a leaf adds D."""


@define
class Log:
    """Keeps what the hardware tells."""

    read: list[tuple[str, int]] = field(factory=list)
    notes: list[str] = field(factory=list)

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        assert raw is None or len(raw) == structure.size  # type: ignore[attr-defined]
        self.read.append((structure.__name__, address))
        self.notes.extend([note] if note else [])

    def note(self, text: str) -> None:
        self.notes.append(text)


@define
class Guest:
    """Software on a machine with one remapping unit of every capability.

    ``cap``, ``ecap``, ``status`` and ``mode`` may be changed before an access.
    """

    memory: PhysicalMemory
    cap: CAP = field(factory=lambda: CAP(SAGAW=0b1110, MGAW=56, SSLPS=3, FL1GP=1, FL5LP=1, FRO=0x22))
    ecap: ECAP = field(
        factory=lambda: ECAP(
            DT=1, PT=1, SC=1, NEST=1, PRS=1, SRS=1, EAFS=1, PSS=19, PASID=1, MTS=1,
            SMTS=1, SSADS=1, SSTS=1, FSTS=1, SMPWCS=1, RPS=1, RPRIVS=1, ADMS=1,
        )
    )  # fmt: skip
    mode: int = 0
    enabled: int = 1
    host_address_width: int | None = 46
    root: int = 0
    next_page: int = RAM

    def __attrs_post_init__(self) -> None:
        self.root = self.page()

    def page(self) -> int:
        """An empty page."""
        self.next_page += 0x1000
        assert self.next_page <= RAM + RAM_SIZE
        return self.next_page - 0x1000

    def put(self, address: int, entry: Descriptor | int) -> int:
        raw = entry.to_bytes(8, "little") if isinstance(entry, int) else entry.encode()
        assert self.memory.write(address, raw)
        return address

    def map(self, table: int, levels: int, address: int, leaf: int, *, leaf_level: int = 0, link: int = R | W) -> int:
        """Write the path to a leaf; gives the leaf's address. ``link`` is what entries above it hold."""
        for level in range(levels - 1, leaf_level, -1):
            at = table + (address >> 12 + 9 * level & 0x1FF) * 8
            entry = self.memory.load(at)
            assert entry is not None
            if not entry:
                entry = self.page() | link
                self.put(at, entry)
            table = entry & 0xF_FFFF_FFFF_F000
        return self.put(table + (address >> 12 + 9 * leaf_level & 0x1FF) * 8, leaf)

    def legacy(self, requester: int, entry: ContextEntry) -> int:
        """Install a legacy context entry; gives its address."""
        table = self.page()
        self.put(self.root + (requester >> 8) * 16, RootEntry(P=1, CTP=table))
        return self.put(table + (requester & 0xFF) * 16, entry)

    def scalable(self, requester: int, entry: ScalableContextEntry) -> int:
        """Install a scalable-mode context entry; gives its address."""
        self.mode = 1
        table, upper = self.page(), requester & 0x80
        root = ScalableRootEntry(UP=1, UCTP=table) if upper else ScalableRootEntry(LP=1, LCTP=table)
        self.put(self.root + (requester >> 8) * 16, root)
        return self.put(table + (requester & 0x7F) * 32, entry)

    def pasid(self, requester: int, pasid: int, entry: PasidTableEntry, *, pdts: int = 0, **context: int) -> int:
        """Install everything down to a PASID table entry; gives its address. ``context``: context entry fields."""
        directory = self.page()
        while self.next_page < directory + (8 << 7 + pdts):  # the directory's pages follow one another
            self.page()
        table = self.page()
        fields = {"P": 1, "PASIDE": 1, "PDTS": pdts, "PASIDDIRPTR": directory, **context}
        self.scalable(requester, ScalableContextEntry(**fields))
        self.put(directory + (pasid >> 6) * 8, PasidDirectoryEntry(P=1, SMPTBLPTR=table))
        return self.put(table + (pasid & 0x3F) * 64, entry)

    @property
    def registers(self) -> Registers:
        return Registers(
            {
                "CAP": int(self.cap),
                "ECAP": int(self.ecap),
                "GSTS": int(GSTS(TES=self.enabled)),
                "RTADDR": int(RTADDR(TTM=self.mode, RTA=self.root)),
            }
        )

    @property
    def hardware(self) -> VtdHardware:
        return VtdHardware.of(self.memory, self.registers, host_address_width=self.host_address_width)

    def configured(self, requester: int, pasid: int | None = None, log: Log | None = None) -> Context | Refusal:
        return self.hardware.configure(requester, pasid, log or Log())

    def context(self, requester: int, pasid: int | None = None) -> Context:
        found = self.configured(requester, pasid)
        assert isinstance(found, Context), found
        return found

    def access(
        self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Translation | Fault:
        found = self.configured(requester, pasid)
        if isinstance(found, Refusal):
            return refused(requester, pasid, iova, access, found)
        return outcome_of(requester, pasid, walk(self.memory.engine, found, iova, access))

    def report(self, requester: int, iova: int = 0, access: Access = Access.READ, pasid: int | None = None) -> Report:
        """What is recorded of an access that must be refused."""
        fault = self.access(requester, iova, access, pasid)
        assert isinstance(fault, Fault), fault
        return self.hardware.report(fault)

    def reason(
        self, requester: int, iova: int = 0, access: Access = Access.READ, pasid: int | None = None
    ) -> str | None:
        """The reason that is recorded; None where the access goes through."""
        if isinstance(self.access(requester, iova, access, pasid), Translation):
            return None
        return self.report(requester, iova, access, pasid).reason
