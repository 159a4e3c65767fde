"""The controller: registers and doorbells, and what commands do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.models.nvme import transfers
from viommu.models.nvme.identify import BLOCK_LG2, DEVICE, MAX_TRANSFER_LG2, VENDOR, VERSION, identify
from viommu.models.nvme.queues import COMMAND, COMMAND_BYTES, Command, CompletionQueue, Outcome, Status, SubmissionQueue
from viommu.modelspecs import Bar, PciIdentity, PciShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.models.nvme.namespace import Namespace
    from viommu.modelspecs import Bus

IDENTITY = PciIdentity(VENDOR, DEVICE, class_code=0x010802, revision=2)
BAR_SIZE, DOORBELLS, MSIX_TABLE = 0x4000, 0x1000, 0x2000
VECTORS = QUEUES = 32
"""Of each kind, that of the administration included."""
MOST_ENTRIES = 1024
CAP, VS, INTMS, INTMC, CC, CSTS, AQA, ASQ, ACQ = 0x00, 0x08, 0x0C, 0x10, 0x14, 0x1C, 0x24, 0x28, 0x30
CAPABILITIES = (MOST_ENTRIES - 1) | 1 << 16 | 20 << 24 | 1 << 37
ENABLE, SHUTDOWN = 1 << 0, 3 << 14
READY, FATAL, SHUT_DOWN = 1 << 0, 1 << 1, 2 << 2
ADMIN = 0
PRPS_ONLY = 0xC0
CONTIGUOUS, INTERRUPTS = 1 << 0, 1 << 1
NUMBER_OF_QUEUES, FEATURES = 0x07, range(1, 0x0C)
LOG_BYTES_MOST = 4096


class Controller:
    """One controller (a `viommu.modelspecs.DeviceModel`)."""

    shape = PciShape(
        IDENTITY, (Bar(0, BAR_SIZE, wide=True, mapped=True),), msix=VECTORS, msix_table=(0, MSIX_TABLE), intx=True
    )

    def __init__(self, bus: Bus, namespace: Namespace) -> None:
        self.bus = bus
        self.namespace = namespace
        self.reset()

    def reset(self) -> None:
        """Be as after power-on."""
        self.registers = {CC: 0, CSTS: 0, AQA: 0, ASQ: 0, ACQ: 0}
        self._disable()

    def _disable(self) -> None:
        self.submissions: dict[int, SubmissionQueue] = {}
        self.completions: dict[int, CompletionQueue] = {}
        self.features: dict[int, int] = {}

    # --- registers

    def read(self, bar: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Read a register, or a half of one."""
        whole = {CAP: CAPABILITIES, VS: VERSION, **self.registers}
        base = offset if offset in whole else offset - 4
        return whole.get(base, 0) >> 8 * (offset - base) & ((1 << 8 * size) - 1)

    def write(self, bar: int, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """Write a register, or a doorbell."""
        if DOORBELLS <= offset < DOORBELLS + 8 * QUEUES:
            self._doorbell(offset - DOORBELLS >> 2, value & 0xFFFF)
        elif offset == CC:
            self._configure(value)
        elif offset in {ASQ, ACQ} and size == 4:
            self.registers[offset] = (self.registers[offset] >> 32 << 32) | value
        elif offset - 4 in {ASQ, ACQ}:
            self.registers[offset - 4] = (self.registers[offset - 4] & 0xFFFF_FFFF) | value << 32
        elif offset in {AQA, ASQ, ACQ}:
            self.registers[offset] = value

    def _configure(self, value: int) -> None:
        was = self.registers[CC]
        self.registers[CC] = value
        if value & ENABLE and not was & ENABLE:
            sizes = self.registers[AQA]
            queue = CompletionQueue(self.registers[ACQ], (sizes >> 16 & 0xFFF) + 1, vector=0, users=1)
            self.completions[ADMIN] = queue
            self.submissions[ADMIN] = SubmissionQueue(self.registers[ASQ], (sizes & 0xFFF) + 1, queue)
            self.registers[CSTS] = READY
        elif was & ENABLE and not value & ENABLE:
            self._disable()
            self.registers[CSTS] = 0
        if value & SHUTDOWN and not was & SHUTDOWN:
            self.namespace.flush()
            self.registers[CSTS] |= SHUT_DOWN

    def _doorbell(self, place: int, value: int) -> None:
        number = place >> 1
        if place & 1:
            queue = self.completions.get(number)
            if queue is not None and value < queue.size:
                queue.head = value
                for other, submissions in tuple(self.submissions.items()):
                    if submissions.completions is queue:
                        self._run(other)
            return
        submission = self.submissions.get(number)
        if submission is not None and value < submission.size:
            submission.tail = value
            self._run(number)

    # --- queues

    def _run(self, number: int) -> None:
        queue = self.submissions[number]
        while queue.head != queue.tail and not queue.completions.is_full:
            raw = self.bus.read(queue.next_address, COMMAND_BYTES)
            if raw is None:
                self.registers[CSTS] |= FATAL
                return
            queue.advance()
            command = Command(*COMMAND.unpack(raw))
            outcome = self._execute(number, command)
            if outcome is None:  # it waits for ever
                continue
            if not self._complete(number, queue, outcome, command.cid) or number not in self.submissions:
                return

    def _complete(self, number: int, queue: SubmissionQueue, outcome: Outcome, cid: int) -> bool:
        address, raw = queue.completions.entry(outcome, queue.head, number, cid)
        if not self.bus.write(address, raw):
            self.registers[CSTS] |= FATAL
            return False
        if queue.completions.vector is not None:
            self.bus.interrupt(queue.completions.vector)
        return True

    def _execute(self, number: int, command: Command) -> Outcome | None:
        if command.flags & PRPS_ONLY:
            return Outcome(Status.INVALID_FIELD)
        act = (_ADMIN if number == ADMIN else _IO).get(command.opcode)
        return Outcome(Status.INVALID_OPCODE) if act is None else act(self, command)

    # --- administration

    def _create_completions(self, command: Command) -> Outcome:
        number, size, vector = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1, command.cdw11 >> 16
        if not 0 < number < QUEUES or number in self.completions:
            return Outcome(Status.INVALID_QUEUE_ID)
        if not 2 <= size <= MOST_ENTRIES:
            return Outcome(Status.INVALID_QUEUE_SIZE)
        if vector >= VECTORS:
            return Outcome(Status.INVALID_VECTOR)
        if not command.cdw11 & CONTIGUOUS or command.prp1 % transfers.PAGE:
            return Outcome(Status.INVALID_FIELD)
        raises = vector if command.cdw11 & INTERRUPTS else None
        self.completions[number] = CompletionQueue(command.prp1, size, raises)
        return Outcome()

    def _create_submissions(self, command: Command) -> Outcome:
        number, size, target = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1, command.cdw11 >> 16
        if not 0 < number < QUEUES or number in self.submissions:
            return Outcome(Status.INVALID_QUEUE_ID)
        if not 2 <= size <= MOST_ENTRIES:
            return Outcome(Status.INVALID_QUEUE_SIZE)
        queue = self.completions.get(target) if target else None
        if queue is None:
            return Outcome(Status.INVALID_COMPLETION_QUEUE)
        if not command.cdw11 & CONTIGUOUS or command.prp1 % transfers.PAGE:
            return Outcome(Status.INVALID_FIELD)
        queue.users += 1
        self.submissions[number] = SubmissionQueue(command.prp1, size, queue)
        return Outcome()

    def _delete_submissions(self, command: Command) -> Outcome:
        queue = self.submissions.pop(command.cdw10 & 0xFFFF, None) if command.cdw10 & 0xFFFF else None
        if queue is None:
            return Outcome(Status.INVALID_QUEUE_ID)
        queue.completions.users -= 1
        return Outcome()

    def _delete_completions(self, command: Command) -> Outcome:
        number = command.cdw10 & 0xFFFF
        queue = self.completions.get(number) if number else None
        if queue is None:
            return Outcome(Status.INVALID_QUEUE_ID)
        if queue.users:
            return Outcome(Status.INVALID_QUEUE_DELETION)
        del self.completions[number]
        return Outcome()

    def _identify(self, command: Command) -> Outcome:
        data = identify(command.cdw10 & 0xFF, command.nsid, self.namespace)
        if data is None:
            return Outcome(Status.INVALID_NAMESPACE if command.nsid > 1 else Status.INVALID_FIELD)
        return self._delivered(command, data)

    def _log_page(self, command: Command) -> Outcome:
        length = ((command.cdw10 >> 16 | (command.cdw11 & 0xFFFF) << 16) + 1) * 4
        if command.cdw10 & 0xFF not in {1, 2, 3} or length > LOG_BYTES_MOST:
            return Outcome(Status.INVALID_LOG_PAGE)
        return self._delivered(command, bytes(length))

    def _set_features(self, command: Command) -> Outcome:
        feature = command.cdw10 & 0xFF
        if feature not in FEATURES:
            return Outcome(Status.INVALID_FIELD)
        if feature == NUMBER_OF_QUEUES:
            most = QUEUES - 2
            granted = min(command.cdw11 & 0xFFFF, most) | min(command.cdw11 >> 16, most) << 16
            self.features[feature] = granted
            return Outcome(result=granted)
        self.features[feature] = command.cdw11
        return Outcome()

    def _get_features(self, command: Command) -> Outcome:
        feature = command.cdw10 & 0xFF
        if feature not in FEATURES:
            return Outcome(Status.INVALID_FIELD)
        most = (QUEUES - 2) | (QUEUES - 2) << 16
        return Outcome(result=self.features.get(feature, most if feature == NUMBER_OF_QUEUES else 0))

    def _abort(self, command: Command) -> Outcome:  # noqa: ARG002 - what was taken has been executed
        return Outcome(result=1)

    def _event(self, command: Command) -> Outcome | None:  # noqa: ARG002
        """Wait for an event, of which there is none."""
        return None

    # --- reading and writing

    def _read(self, command: Command) -> Outcome:
        status, block, count = self._range(command)
        return Outcome(status) if status else self._delivered(command, self.namespace.read(block, count))

    def _write(self, command: Command) -> Outcome:
        status, block, count = self._range(command)
        if status:
            return Outcome(status)
        data = transfers.fetch(self.bus, command.prp1, command.prp2, count << BLOCK_LG2)
        if data is None:
            return Outcome(Status.DATA_TRANSFER)
        self.namespace.write(block, data)
        return Outcome()

    def _write_zeroes(self, command: Command) -> Outcome:
        status, block, count = self._range(command, moves=False)
        if not status:
            self.namespace.write(block, bytes(count << BLOCK_LG2))
        return Outcome(status)

    def _flush(self, command: Command) -> Outcome:
        if command.nsid not in {1, 0xFFFFFFFF}:
            return Outcome(Status.INVALID_NAMESPACE)
        self.namespace.flush()
        return Outcome()

    def _range(self, command: Command, *, moves: bool = True) -> tuple[Status, int, int]:
        block, count = command.wide10, (command.cdw12 & 0xFFFF) + 1
        if command.nsid != 1:
            return Status.INVALID_NAMESPACE, 0, 0
        if moves and count << BLOCK_LG2 > transfers.PAGE << MAX_TRANSFER_LG2:
            return Status.INVALID_FIELD, 0, 0
        if not self.namespace.holds(block, count):
            return Status.OUT_OF_RANGE, 0, 0
        return Status.SUCCESS, block, count

    def _delivered(self, command: Command, data: bytes) -> Outcome:
        done = transfers.deliver(self.bus, command.prp1, command.prp2, data)
        return Outcome(Status.SUCCESS if done else Status.DATA_TRANSFER)


_ADMIN: dict[int, Callable[[Controller, Command], Outcome | None]] = {
    0x00: Controller._delete_submissions,  # noqa: SLF001 - the table of its own methods
    0x01: Controller._create_submissions,  # noqa: SLF001
    0x02: Controller._log_page,  # noqa: SLF001
    0x04: Controller._delete_completions,  # noqa: SLF001
    0x05: Controller._create_completions,  # noqa: SLF001
    0x06: Controller._identify,  # noqa: SLF001
    0x08: Controller._abort,  # noqa: SLF001
    0x09: Controller._set_features,  # noqa: SLF001
    0x0A: Controller._get_features,  # noqa: SLF001
    0x0C: Controller._event,  # noqa: SLF001
}
_IO: dict[int, Callable[[Controller, Command], Outcome | None]] = {
    0x00: Controller._flush,  # noqa: SLF001
    0x01: Controller._write,  # noqa: SLF001
    0x02: Controller._read,  # noqa: SLF001
    0x08: Controller._write_zeroes,  # noqa: SLF001
}
