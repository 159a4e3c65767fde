"""The structures of the iommufd uAPI, in the header's order, and its constants (Linux 7.2).

Fields named ``__reserved`` in C are ``reserved`` here, for Python would mangle the name.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from viommu.iommufd.uapi_struct import UapiStruct, bytes3, bytes16, bytes24, bytes32, bytes48, s32, u8, u16, u32, u64

__all__ = [
    "Destroy",
    "DirtyFlags",
    "FaultAlloc",
    "FaultFlags",
    "HwCapabilities",
    "HwInfo",
    "HwInfoAmd",
    "HwInfoArmSmmuv3",
    "HwInfoFlags",
    "HwInfoTegra241Cmdqv",
    "HwInfoVtd",
    "HwQueueAlloc",
    "HwptAlloc",
    "HwptAmdGuest",
    "HwptArmSmmuv3",
    "HwptFlags",
    "HwptGetDirtyBitmap",
    "HwptInvalidate",
    "HwptPageResponse",
    "HwptPgfault",
    "HwptSetDirtyTracking",
    "HwptVtdS1",
    "HwptVtdS1Invalidate",
    "IoasAlloc",
    "IoasAllowIovas",
    "IoasChangeProcess",
    "IoasCopy",
    "IoasIovaRanges",
    "IoasMap",
    "IoasMapFile",
    "IoasUnmap",
    "IovaRange",
    "MapFlags",
    "Option",
    "OptionId",
    "OptionOp",
    "ResponseCode",
    "TestCmd",
    "VdeviceAlloc",
    "VeventArmSmmuv3",
    "VeventFlags",
    "VeventHeader",
    "VeventTegra241Cmdqv",
    "VeventqAlloc",
    "VfioIoas",
    "VfioIoasOp",
    "ViommuAlloc",
    "ViommuArmSmmuv3Invalidate",
    "ViommuTegra241Cmdqv",
]


class Destroy(UapiStruct, name="iommu_destroy"):
    """Destroy an object of any type."""

    size: u32
    id: u32


class IoasAlloc(UapiStruct, name="iommu_ioas_alloc"):
    """Make an I/O address space."""

    size: u32
    flags: u32
    out_ioas_id: u32


class IovaRange(UapiStruct, name="iommu_iova_range"):
    """A closed range of IOVAs."""

    start: u64
    last: u64


class IoasIovaRanges(UapiStruct, name="iommu_ioas_iova_ranges"):
    """Ask which IOVAs are not reserved."""

    size: u32
    ioas_id: u32
    num_iovas: u32
    reserved: u32
    allowed_iovas: u64
    out_iova_alignment: u64


class IoasAllowIovas(UapiStruct, name="iommu_ioas_allow_iovas"):
    """Say where automatic placement may put mappings."""

    size: u32
    ioas_id: u32
    num_iovas: u32
    reserved: u32
    allowed_iovas: u64


class IoasMap(UapiStruct, name="iommu_ioas_map"):
    """Map user memory."""

    size: u32
    flags: u32
    ioas_id: u32
    reserved: u32
    user_va: u64
    length: u64
    iova: u64


class IoasMapFile(UapiStruct, name="iommu_ioas_map_file"):
    """Map a stretch of a memfd, a shared file or a dma-buf."""

    size: u32
    flags: u32
    ioas_id: u32
    fd: s32
    start: u64
    length: u64
    iova: u64


class IoasCopy(UapiStruct, name="iommu_ioas_copy"):
    """Map what another IOAS maps."""

    size: u32
    flags: u32
    dst_ioas_id: u32
    src_ioas_id: u32
    length: u64
    dst_iova: u64
    src_iova: u64


class IoasUnmap(UapiStruct, name="iommu_ioas_unmap"):
    """Unmap whole areas."""

    size: u32
    ioas_id: u32
    iova: u64
    length: u64


class Option(UapiStruct, name="iommu_option"):
    """Read or set an option."""

    size: u32
    option_id: u32
    op: u16
    reserved: u16
    object_id: u32
    val64: u64


class VfioIoas(UapiStruct, name="iommu_vfio_ioas"):
    """Choose the IOAS that VFIO compatibility uses."""

    size: u32
    ioas_id: u32
    op: u16
    reserved: u16


class HwptVtdS1(UapiStruct, name="iommu_hwpt_vtd_s1"):
    """A guest first-stage table of VT-d."""

    flags: u64
    pgtbl_addr: u64
    addr_width: u32
    reserved: u32


class HwptArmSmmuv3(UapiStruct, name="iommu_hwpt_arm_smmuv3"):
    """A guest STE of SMMUv3: the words that a guest may choose."""

    ste: bytes16


class HwptAmdGuest(UapiStruct, name="iommu_hwpt_amd_guest"):
    """A guest DTE of AMD."""

    dte: bytes32


class HwptAlloc(UapiStruct, name="iommu_hwpt_alloc", last="reserved"):
    """Make a HWPT, paging or nested."""

    size: u32
    flags: u32
    dev_id: u32
    pt_id: u32
    out_hwpt_id: u32
    reserved: u32
    data_type: u32
    data_len: u32
    data_uptr: u64
    fault_id: u32
    reserved2: u32


class HwInfoVtd(UapiStruct, name="iommu_hw_info_vtd"):
    """Capability registers of VT-d."""

    flags: u32
    reserved: u32
    cap_reg: u64
    ecap_reg: u64


class HwInfoArmSmmuv3(UapiStruct, name="iommu_hw_info_arm_smmuv3"):
    """Identification registers of SMMUv3."""

    flags: u32
    reserved: u32
    idr: bytes24
    iidr: u32
    aidr: u32


class HwInfoTegra241Cmdqv(UapiStruct, name="iommu_hw_info_tegra241_cmdqv"):
    """Sizes of a Tegra241 CMDQV."""

    flags: u32
    version: u8
    log2vcmdqs: u8
    log2vsids: u8
    reserved: u8


class HwInfoAmd(UapiStruct, name="iommu_hw_info_amd"):
    """Extended feature registers of AMD."""

    efr: u64
    efr2: u64


class HwInfo(UapiStruct, name="iommu_hw_info", last="reserved"):
    """Ask what hardware stands behind a device."""

    size: u32
    flags: u32
    dev_id: u32
    data_len: u32
    data_uptr: u64
    data_type: u32
    out_max_pasid_log2: u8
    reserved: bytes3
    out_capabilities: u64


class HwptSetDirtyTracking(UapiStruct, name="iommu_hwpt_set_dirty_tracking"):
    """Switch dirty tracking."""

    size: u32
    flags: u32
    hwpt_id: u32
    reserved: u32


class HwptGetDirtyBitmap(UapiStruct, name="iommu_hwpt_get_dirty_bitmap"):
    """Read which pages DMA wrote."""

    size: u32
    hwpt_id: u32
    flags: u32
    reserved: u32
    iova: u64
    length: u64
    page_size: u64
    data: u64


class HwptVtdS1Invalidate(UapiStruct, name="iommu_hwpt_vtd_s1_invalidate"):
    """One invalidation of a VT-d first stage."""

    addr: u64
    npages: u64
    flags: u32
    reserved: u32


class ViommuArmSmmuv3Invalidate(UapiStruct, name="iommu_viommu_arm_smmuv3_invalidate"):
    """One command of an SMMUv3 command queue."""

    cmd: bytes16


class HwptInvalidate(UapiStruct, name="iommu_hwpt_invalidate"):
    """Invalidate caches for a nested HWPT or a vIOMMU."""

    size: u32
    hwpt_id: u32
    data_uptr: u64
    data_type: u32
    entry_len: u32
    entry_num: u32
    reserved: u32


class HwptPgfault(UapiStruct, name="iommu_hwpt_pgfault"):
    """A page request, as a FAULT is read."""

    flags: u32
    dev_id: u32
    pasid: u32
    grpid: u32
    perm: u32
    reserved: u32
    addr: u64
    length: u32
    cookie: u32


class HwptPageResponse(UapiStruct, name="iommu_hwpt_page_response"):
    """A response, as a FAULT is written."""

    cookie: u32
    code: u32


class FaultAlloc(UapiStruct, name="iommu_fault_alloc"):
    """Make a FAULT queue."""

    size: u32
    flags: u32
    out_fault_id: u32
    out_fault_fd: u32


class ViommuTegra241Cmdqv(UapiStruct, name="iommu_viommu_tegra241_cmdqv"):
    """Where a VINTF can be mapped."""

    out_vintf_mmap_offset: u64
    out_vintf_mmap_length: u64


class ViommuAlloc(UapiStruct, name="iommu_viommu_alloc", last="out_viommu_id"):
    """Make a vIOMMU."""

    size: u32
    flags: u32
    type: u32
    dev_id: u32
    hwpt_id: u32
    out_viommu_id: u32
    data_len: u32
    reserved: u32
    data_uptr: u64


class VdeviceAlloc(UapiStruct, name="iommu_vdevice_alloc"):
    """Give a device its id on a vIOMMU."""

    size: u32
    viommu_id: u32
    dev_id: u32
    out_vdevice_id: u32
    virt_id: u64


class IoasChangeProcess(UapiStruct, name="iommu_ioas_change_process"):
    """Move file mappings to the calling process."""

    size: u32
    reserved: u32


class VeventHeader(UapiStruct, name="iommufd_vevent_header"):
    """What precedes each event of a VEVENTQ."""

    flags: u32
    sequence: u32


class VeventArmSmmuv3(UapiStruct, name="iommu_vevent_arm_smmuv3"):
    """One event record of SMMUv3."""

    evt: bytes32


class VeventTegra241Cmdqv(UapiStruct, name="iommu_vevent_tegra241_cmdqv"):
    """Which queues of a VINTF are in error."""

    lvcmdq_err_map: bytes16


class VeventqAlloc(UapiStruct, name="iommu_veventq_alloc", last="out_veventq_fd"):
    """Make a VEVENTQ."""

    size: u32
    flags: u32
    viommu_id: u32
    type: u32
    veventq_depth: u32
    out_veventq_id: u32
    out_veventq_fd: u32
    reserved: u32


class HwQueueAlloc(UapiStruct, name="iommu_hw_queue_alloc"):
    """Give a guest a hardware queue of its own."""

    size: u32
    flags: u32
    viommu_id: u32
    type: u32
    index: u32
    out_hw_queue_id: u32
    nesting_parent_iova: u64
    length: u64


class TestCmd(UapiStruct, name="iommu_test_cmd", last="last"):
    """One operation of a test kernel; what ``body`` means depends on ``op``."""

    size: u32
    op: u32
    id: u32
    reserved: u32
    body: bytes48
    last: u32
    padding: u32


class MapFlags(IntFlag):
    """Flags of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY."""

    FIXED_IOVA = 1
    WRITEABLE = 2
    READABLE = 4


class HwptFlags(IntFlag):
    """Flags of HWPT_ALLOC."""

    NEST_PARENT = 1
    DIRTY_TRACKING = 2
    FAULT_ID_VALID = 4
    PASID = 8


class HwInfoFlags(IntFlag):
    """Flags of GET_HW_INFO."""

    INPUT_TYPE = 1


class HwCapabilities(IntFlag):
    """What GET_HW_INFO says in ``out_capabilities``."""

    DIRTY_TRACKING = 1
    PASID_EXEC = 2
    PASID_PRIV = 4
    ATS_NOT_SUPPORTED = 8


class OptionId(IntEnum):
    """Which option."""

    RLIMIT_MODE = 0
    HUGE_PAGES = 1


class OptionOp(IntEnum):
    """What to do with an option."""

    SET = 0
    GET = 1


class VfioIoasOp(IntEnum):
    """What to do with the IOAS of VFIO compatibility."""

    GET = 0
    SET = 1
    CLEAR = 2


class DirtyFlags(IntFlag):
    """Flags of HWPT_GET_DIRTY_BITMAP."""

    NO_CLEAR = 1


class FaultFlags(IntFlag):
    """What a page request says of itself."""

    PASID_VALID = 1
    LAST_PAGE = 2


class ResponseCode(IntEnum):
    """How a page request is answered."""

    SUCCESS = 0
    INVALID = 1


class VeventFlags(IntFlag):
    """What an event header says."""

    LOST_EVENTS = 1
