"""What each fault reason means, and what is likely wrong, likeliest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.spec.faults import FaultReason as F

if TYPE_CHECKING:
    from collections.abc import Mapping

STALE_CONTEXT = "software changed the entry and did not invalidate the context cache"
STALE_PASID = "software changed the entry and did not invalidate the PASID cache"
BAD_POINTER = "the pointer to it is wrong, or leads to where no memory is"
OVERWRITTEN = "something else has overwritten the table"
UNMAPPED = "the driver unmapped the buffer while the device still uses it"
NEVER = "the device uses an address that was never mapped for it (a wrong or stale DMA address)"
DIRECTION = "the buffer was mapped for the other direction"
WRONG_ALIAS = "the request bears another device's source-id (a bridge or a phantom function) whose tables differ"
NO_DRIVER = "the device does DMA before any driver has attached it to a domain, or after it was detached"
ABILITY = "software uses a field whose capability is absent in CAP or ECAP"
OLDER = "software was written for another revision of the specification"
INTERRUPTS = "a page table maps an address onto the interrupt range 0xfee00000 to 0xfeefffff"
NOT_COHERENT = "the entry is still in a CPU cache: ECAP.C or PWSNP is 0 and software did not flush it"
UNFLUSHED = "software did not invalidate the IOTLB"
UNFLUSHED_NEST = "stage 2 was unmapped without the nested domains being flushed"
WRONG_ADDRESS = "the device uses a wrong address"
NOT_WRITABLE = "the table lies in memory that cannot be written"
ATS_ON = "ATS is enabled in the device but not in its context entry"

REASONS: Mapping[F, tuple[str, tuple[str, ...]]] = {
    F.ROOT_NOT_PRESENT: ("its bus has no root entry (P is 0)", (NO_DRIVER, WRONG_ALIAS, STALE_CONTEXT)),
    F.CONTEXT_NOT_PRESENT: ("it has no context entry (P is 0)", (NO_DRIVER, WRONG_ALIAS, STALE_CONTEXT)),
    F.CONTEXT_INVALID: (
        "its context entry asks for what hardware lacks, or for a top-level table that cannot be read",
        ("AW is not in CAP.SAGAW", "TT needs ECAP.DT or ECAP.PT", BAD_POINTER),
    ),
    F.ADDRESS_BEYOND_MGAW: (
        "the address is wider than MGAW or the AW of its context entry",
        (WRONG_ADDRESS, "the domain has fewer levels than the addresses it hands out need"),
    ),
    F.WRITE_DENIED: ("no page may be written there", (UNMAPPED, DIRECTION, NEVER, UNFLUSHED)),
    F.READ_DENIED: ("no page may be read there", (UNMAPPED, NEVER, DIRECTION, UNFLUSHED)),
    F.NEXT_TABLE_ACCESS: ("a page table cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.ROOT_ACCESS: ("its root entry cannot be read", ("RTADDR is wrong, or SRTP was not given after it was written",)),
    F.CONTEXT_ACCESS: ("its context table cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.ROOT_RESERVED: (
        "reserved bits of its root entry are set",
        (OVERWRITTEN, OLDER, "the root table is one of scalable mode"),
    ),
    F.CONTEXT_RESERVED: ("reserved bits of its context entry are set", (OVERWRITTEN, OLDER)),
    F.PAGE_ENTRY_RESERVED: (
        "reserved bits of a page-table entry are set",
        (OVERWRITTEN, "a large page is not aligned, or of a size that CAP.SSLPS lacks", ABILITY),
    ),
    F.TRANSLATION_REQUEST_BLOCKED: ("its context entry does not allow ATS (TT is not 1)", (ATS_ON, STALE_CONTEXT)),
    F.INTERRUPT_RANGE: ("its page lies in the interrupt range", (INTERRUPTS,)),
    F.IR_REQUEST_RESERVED: (
        "reserved bits of the interrupt message are set",
        ("the message is not of remappable format",),
    ),
    F.IR_INDEX_BEYOND_TABLE: (
        "the interrupt's index is beyond the table",
        ("the device kept a message of before", "IRTA.S is too small"),
    ),
    F.IR_ENTRY_NOT_PRESENT: (
        "the interrupt has no table entry (P is 0)",
        ("the interrupt was freed while the device still sends it", "firmware left the device's interrupts on"),
    ),
    F.IR_TABLE_ACCESS: (
        "the interrupt table entry cannot be read",
        ("IRTA is wrong, or SIRTP was not given after it was written",),
    ),
    F.IR_ENTRY_RESERVED: ("reserved bits of the interrupt table entry are set", (OVERWRITTEN, OLDER)),
    F.IR_COMPATIBILITY_BLOCKED: (
        "an interrupt of compatibility format is blocked",
        ("the device's message was not rewritten into remappable format", "GSTS.CFIS is 0 or IRTA.EIME is 1"),
    ),
    F.IR_SOURCE_INVALID: (
        "the interrupt table entry belongs to another source-id",
        (WRONG_ALIAS, "a device sends an interrupt that is not its own"),
    ),
    F.IR_POSTED_DESCRIPTOR_ACCESS: ("the posted-interrupt descriptor cannot be read or written", (BAD_POINTER,)),
    F.IR_POSTED_DESCRIPTOR_RESERVED: ("reserved bits of the posted-interrupt descriptor are set", (OVERWRITTEN,)),
    F.IR_UNTRANSLATED_WITH_PASID: ("an interrupt came with a PASID", ("the device sends its interrupts with a PASID",)),
    F.TABLE_MODE_INVALID: (
        "RTADDR.TTM is reserved or not supported",
        ("scalable mode without ECAP.SMTS", "abort-DMA mode without ECAP.ADMS"),
    ),
    F.PASID_IN_LEGACY_MODE: ("a request with PASID came in legacy mode", ("the device's PASID capability is enabled",)),
    F.PAGE_GROUP_IN_LEGACY_MODE: ("a page request came in legacy mode", ("the device's PRI capability is enabled",)),
    F.ABORT_DMA_MODE: ("RTADDR.TTM aborts all DMA", ("the device was not quiet when software set abort-DMA mode",)),
    F.SM_ROOT_ACCESS: (
        "its root entry cannot be read",
        ("RTADDR is wrong, or SRTP was not given after it was written",),
    ),
    F.SM_ROOT_NOT_PRESENT: (
        "its half of the bus has no root entry (LP or UP is 0)",
        (NO_DRIVER, WRONG_ALIAS, STALE_CONTEXT),
    ),
    F.SM_ROOT_RESERVED: ("reserved bits of its root entry are set", (OVERWRITTEN, OLDER)),
    F.SM_CONTEXT_ACCESS: ("its context entry cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.SM_CONTEXT_NOT_PRESENT: ("it has no context entry (P is 0)", (NO_DRIVER, WRONG_ALIAS, STALE_CONTEXT)),
    F.SM_CONTEXT_RESERVED: ("reserved bits of its context entry are set", (ABILITY, OVERWRITTEN, OLDER)),
    F.SM_CONTEXT_INVALID: (
        "its context entry asks for what hardware lacks",
        ("RID_PASID is beyond the PASID directory",),
    ),
    F.DEVICE_TLB_DISABLED: ("its context entry does not allow ATS (DTE is 0)", (ATS_ON, STALE_CONTEXT)),
    F.PASID_DISABLED: (
        "its context entry does not allow PASIDs (PASIDE is 0)",
        ("PASID is enabled in the device but not in its context entry", STALE_CONTEXT),
    ),
    F.PASID_TOO_LARGE: (
        "the PASID is beyond the PASID directory",
        ("PDTS is too small", "the device uses a PASID that nobody gave it"),
    ),
    F.PAGE_REQUEST_DISABLED: (
        "its context entry does not allow page requests (PRE is 0)",
        ("PRI is enabled in the device but not in its context entry", STALE_CONTEXT),
    ),
    F.RID_PASID_INVALID: ("RID_PASID is beyond the PASID directory", ("PDTS is too small for RID_PASID",)),
    F.PASID_DIRECTORY_ACCESS: ("its PASID directory cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.PASID_DIRECTORY_NOT_PRESENT: (
        "the PASID has no directory entry (P is 0)",
        ("the PASID was never bound for this device", NOT_COHERENT, STALE_PASID),
    ),
    F.PASID_DIRECTORY_RESERVED: ("reserved bits of the PASID directory entry are set", (OVERWRITTEN,)),
    F.PASID_TABLE_ACCESS: ("its PASID table cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.PASID_ENTRY_NOT_PRESENT: (
        "the PASID has no table entry (P is 0)",
        (
            "the PASID was unbound while the device still uses it",
            "the PASID was never bound for this device",
            NOT_COHERENT,
            STALE_PASID,
        ),
    ),
    F.PASID_ENTRY_RESERVED: ("reserved bits of the PASID table entry are set", (ABILITY, OVERWRITTEN, OLDER)),
    F.PASID_ENTRY_INVALID: (
        "the PASID table entry asks for what hardware lacks",
        (
            "PGTT needs ECAP.FSTS, SSTS, NEST or PT",
            "AW is not in CAP.SAGAW",
            "FSPM asks for 5 levels without CAP.FL5LP",
        ),
    ),
    F.EXECUTE_DISABLED: ("the PASID may not execute (ERE is 0)", ("the device asks for instructions",)),
    F.SUPERVISOR_DISABLED: (
        "the PASID may not be privileged (SRE is 0)",
        ("the device sends privileged requests", "RID_PRIV is 1"),
    ),
    F.FS_ENTRY_ACCESS: ("a first-stage table cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.FS_NOT_PRESENT: (
        "nothing is mapped there (P is 0 in first stage)",
        (UNMAPPED, NEVER, "the page fault of a shared address space was not served", UNFLUSHED),
    ),
    F.FS_RESERVED: (
        "reserved bits of a first-stage entry are set",
        (OVERWRITTEN, "a large page is not aligned, or 1 GiB without CAP.FL1GP"),
    ),
    F.FS_TOP_ENTRY_ACCESS: (
        "the top first-stage table cannot be read",
        ("FSPTPTR is wrong", "nested: FSPTPTR is guest-physical, and stage 2 maps it to where no memory is"),
    ),
    F.FS_TABLE_BEYOND_SS: (
        "a first-stage table lies beyond what second stage translates",
        ("the guest's pointer is wrong", "AW of second stage is too small"),
    ),
    F.FS_TOP_READ_DENIED_BY_SS: (
        "second stage does not let the top first-stage table be read",
        ("the guest's FSPTPTR is not memory of the guest", UNFLUSHED_NEST),
    ),
    F.FS_READ_DENIED_BY_SS: (
        "second stage does not let a first-stage table be read",
        ("the guest's table pointer is not memory of the guest", UNFLUSHED_NEST),
    ),
    F.FS_UPDATE_DENIED_BY_SS: (
        "second stage does not let the accessed or dirty bit of a first-stage entry be stored",
        ("the guest's tables lie in memory that stage 2 maps read-only",),
    ),
    F.SS_ENTRY_ACCESS: ("a second-stage table cannot be read", (BAD_POINTER, OVERWRITTEN)),
    F.SS_NOT_PRESENT: ("nothing is mapped there (R and W are 0 in second stage)", (UNMAPPED, NEVER, UNFLUSHED)),
    F.SS_RESERVED: (
        "reserved bits of a second-stage entry are set",
        (OVERWRITTEN, "SNP without ECAP.SC", "a large page is not aligned, or of a size that CAP.SSLPS lacks"),
    ),
    F.SS_TOP_ENTRY_ACCESS: ("the top second-stage table cannot be read", ("SSPTPTR is wrong",)),
    F.SS_UPDATE_NOT_SNOOPED: (
        "an accessed or dirty bit of second stage has to be stored and PWSNP is 0",
        ("SSADE was set without PWSNP",),
    ),
    F.SS_UPDATE_FAILED: ("an accessed or dirty bit of second stage could not be stored", (NOT_WRITABLE,)),
    F.FS_NOT_CANONICAL: (
        "the address is not canonical",
        (WRONG_ADDRESS, "FSPM has fewer levels than the address needs"),
    ),
    F.FS_USER_DENIED: (
        "a page of the supervisor is asked for by a user request (U/S is 0)",
        ("the mapping is meant for privileged requests",),
    ),
    F.FS_EXECUTE_DENIED: ("a page may not be executed (XD is 1)", ("the device fetches instructions from data",)),
    F.ADDRESS_BEYOND_HOST: (
        "an address that passes is wider than the host's",
        (WRONG_ADDRESS, "the device kept a translation that is none"),
    ),
    F.ADDRESS_BEYOND_SS: (
        "the address is wider than MGAW or AW",
        (WRONG_ADDRESS, "nested: first stage points beyond the guest's memory"),
    ),
    F.SM_WRITE_DENIED: (
        "the page may not be written",
        (DIRECTION, "the page is write-protected (copy on write, dirty tracking) and the page fault was not served"),
    ),
    F.SM_READ_DENIED: ("the page may not be read", (DIRECTION,)),
    F.SM_INTERRUPT_RANGE: ("its page lies in the interrupt range", (INTERRUPTS,)),
    F.GENERAL_9: ("no source says what for", ()),
    F.GENERAL_10: ("no source says what for", ()),
    F.FS_UPDATE_NOT_SNOOPED: (
        "an accessed or dirty bit of first stage has to be stored and PWSNP is 0",
        ("PWSNP was not set although ECAP.SMPWCS is there",),
    ),
    F.FS_UPDATE_FAILED: ("an accessed or dirty bit of first stage could not be stored", (NOT_WRITABLE,)),
}
