"""What the body of IOMMU_TEST_CMD means for each operation; every structure is as long as the command."""

from __future__ import annotations

from viommu.iommufd.uapi_struct import UapiStruct, u32, u64


class Range(UapiStruct, name="add_reserved"):
    """ADD_RESERVED."""

    start: u64
    length: u64


class MockDomain(UapiStruct, name="mock_domain"):
    """MOCK_DOMAIN and MOCK_DOMAIN_FLAGS."""

    out_stdev_id: u32
    out_hwpt_id: u32
    out_idev_id: u32
    dev_flags: u32


class Replace(UapiStruct, name="mock_domain_replace"):
    """MOCK_DOMAIN_REPLACE, ACCESS_REPLACE_IOAS."""

    pt_id: u32


class CheckMap(UapiStruct, name="check_map"):
    """MD_CHECK_MAP."""

    iova: u64
    length: u64
    uptr: u64


class CheckRefs(UapiStruct, name="check_refs"):
    """MD_CHECK_REFS."""

    length: u64
    uptr: u64
    refs: u32


class CreateAccess(UapiStruct, name="create_access"):
    """CREATE_ACCESS."""

    out_access_fd: u32
    flags: u32


class DestroyPages(UapiStruct, name="destroy_access_pages"):
    """DESTROY_ACCESS_PAGES."""

    access_pages_id: u32


class AccessPages(UapiStruct, name="access_pages"):
    """ACCESS_PAGES."""

    flags: u32
    out_access_pages_id: u32
    iova: u64
    length: u64
    uptr: u64


class AccessRw(UapiStruct, name="access_rw"):
    """ACCESS_RW."""

    iova: u64
    length: u64
    uptr: u64
    flags: u32


class MemoryLimit(UapiStruct, name="memory_limit"):
    """SET_TEMP_MEMORY_LIMIT."""

    limit: u32


class Dirty(UapiStruct, name="dirty"):
    """DIRTY."""

    flags: u32
    padding: u32
    iova: u64
    length: u64
    page_size: u64
    uptr: u64
    out_nr_dirty: u64


class CheckEntry(UapiStruct, name="check_iotlb"):
    """MD_CHECK_IOTLB and DEV_CHECK_CACHE."""

    index: u32
    value: u32


class TriggerIopf(UapiStruct, name="trigger_iopf"):
    """TRIGGER_IOPF."""

    dev_id: u32
    pasid: u32
    grpid: u32
    perm: u32
    addr: u64


class TriggerVevent(UapiStruct, name="trigger_vevent"):
    """TRIGGER_VEVENT."""

    dev_id: u32


class Pasid(UapiStruct, name="pasid_attach"):
    """PASID_ATTACH, PASID_REPLACE, PASID_DETACH, PASID_CHECK_HWPT."""

    pasid: u32
    pt_id: u32


class DmaBufGet(UapiStruct, name="dmabuf_get"):
    """DMABUF_GET."""

    length: u32
    open_flags: u32


class DmaBufRevoke(UapiStruct, name="dmabuf_revoke"):
    """DMABUF_REVOKE."""

    dmabuf_fd: u32
    revoked: u32
