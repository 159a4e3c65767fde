"""What hardware logs while the host acknowledges the interrupt sets the bit, and interrupts nobody: it is read too."""

from __future__ import annotations

from viommu.memory import PhysicalMemory
from viommu_amd_viommu.host.logs import ENTRY, EVENTS, HostLog
from viommu_amd_viommu.spec.registers import Status


class LateRegisters(dict[str, int]):
    """Registers of a log to which an entry comes in the moment in which the host has read all and lets go."""

    def __init__(self, memory: PhysicalMemory, base: int) -> None:
        super().__init__(EVTHEAD=0, EVTTAIL=0, STATUS=Status.EventLogInt.mask)
        self.memory, self.base, self.late = memory, base, 2
        self.log(b"first")

    def log(self, text: bytes) -> None:
        self.memory.write(self.base + self["EVTTAIL"], text.ljust(ENTRY, b"\0"))
        dict.__setitem__(self, "EVTTAIL", self["EVTTAIL"] + ENTRY)
        dict.__setitem__(self, "STATUS", self["STATUS"] | Status.EventLogInt.mask)

    def __setitem__(self, name: str, value: int) -> None:
        dict.__setitem__(self, name, self[name] & ~value if name == "STATUS" else value)
        if name == "EVTHEAD" and self.late:
            self.late -= 1
            self.log(b"late")

    @property
    def status(self) -> Status:
        return Status.decode(self["STATUS"])


def test_what_is_logged_while_the_interrupt_is_acknowledged_is_taken_too() -> None:
    memory = PhysicalMemory()
    base = memory.add_ram(0x2000).pa()
    registers = LateRegisters(memory, base)
    log = HostLog(registers, memory, EVENTS, base)  # type: ignore[arg-type]
    assert [raw.rstrip(b"\0") for raw in log.take()] == [b"first", b"late", b"late"]
    assert not registers.status.EventLogInt
