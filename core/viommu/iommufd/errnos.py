"""Which errnos each ioctl gives, and when, in the order of the checks where that can be told in a line.

This is documentation that a test holds against recordings of a real kernel: what was recorded is here.
"""

from __future__ import annotations

EVERY: tuple[tuple[str, str], ...] = (
    ("EFAULT", "the structure's size cannot be read"),
    ("ENOTTY", "the number is not that of an ioctl"),
    ("EINVAL", "the size is below the least one"),
    ("EFAULT", "the structure cannot be read"),
    ("E2BIG", "what lies beyond the structure that the kernel knows is not zero"),
    ("EFAULT", "the answer cannot be written; then nothing has happened"),
    ("ENOMEM", "an allocation fails"),
)
"""What every ioctl may give."""

NO_ID = ("ENOENT", "an id names no object of the type that is wanted")
FLAGS = ("EOPNOTSUPP", "a flag or a reserved field is not known")

ERRNOS: dict[str, tuple[tuple[str, str], ...]] = {
    "IOMMU_DESTROY": (
        ("ENOENT", "the id names no object, or that of a vDEVICE whose device is gone"),
        ("EBUSY", "something still holds the object"),
    ),
    "IOMMU_IOAS_ALLOC": (FLAGS,),
    "IOMMU_IOAS_ALLOW_IOVAS": (
        FLAGS,
        NO_ID,
        ("EFAULT", "the ranges cannot be read"),
        ("EINVAL", "a range ends at or before its start, or overlaps one before it"),
        ("EADDRINUSE", "a range is reserved for a device"),
    ),
    "IOMMU_IOAS_COPY": (
        FLAGS,
        ("EOVERFLOW", "length, src_iova or dst_iova is 2^64 - 1, or a range runs over"),
        ("EINVAL", "neither READABLE nor WRITEABLE, length 0, or dst_iova is misaligned, reserved or out of reach"),
        ("ENOENT", "an id names no IOAS, or the source is not mapped throughout"),
        ("EPERM", "WRITEABLE, of memory that was mapped READABLE alone"),
        ("EEXIST", "the range is mapped already"),
        ("ENOSPC", "no IOVA is free"),
        ("EFAULT", "the memory behind the source is gone"),
        ("ENOMEM", "the limit of locked memory is reached"),
    ),
    "IOMMU_IOAS_IOVA_RANGES": (
        FLAGS,
        NO_ID,
        ("EFAULT", "the ranges cannot be written"),
        ("EMSGSIZE", "there are more ranges than num_iovas; it says how many, and as many as fit are written"),
    ),
    "IOMMU_IOAS_MAP": (
        FLAGS,
        ("EOVERFLOW", "iova or length is 2^64 - 1, or a range runs over"),
        ("EINVAL", "neither READABLE nor WRITEABLE, length 0, or iova is misaligned, reserved or out of reach"),
        NO_ID,
        ("EEXIST", "the range is mapped already"),
        ("ENOSPC", "no IOVA is free where one is to be chosen"),
        ("EFAULT", "user memory is not mapped with the right, and a domain or access wants it now"),
        ("ENOMEM", "the limit of locked memory is reached"),
    ),
    "IOMMU_IOAS_UNMAP": (
        ("EOVERFLOW", "iova or length is 2^64 - 1 (but for 0 and 2^64 - 1: everything), or the range runs over"),
        ("EINVAL", "length 0"),
        ("ENOENT", "the id names no IOAS, nothing is mapped, or a mapping lies partly outside the range"),
        ("EBUSY", "a hardware queue lies in the memory"),
        ("EDEADLK", "an access does not let go"),
    ),
    "IOMMU_OPTION": (
        FLAGS,
        ("EOPNOTSUPP", "option_id or op is not known; an object_id, for RLIMIT_MODE"),
        ("EPERM", "RLIMIT_MODE is set without CAP_SYS_RESOURCE"),
        ("EBUSY", "RLIMIT_MODE is set while there are objects"),
        ("ENOENT", "HUGE_PAGES: object_id names no IOAS"),
        ("EINVAL", "val64 is not 0 or 1; HUGE_PAGES is switched off while something is mapped in a domain"),
        ("EADDRINUSE", "HUGE_PAGES is switched off while a mapping is not aligned to pages"),
    ),
    "IOMMU_VFIO_IOAS": (
        FLAGS,
        ("EOPNOTSUPP", "op is not known"),
        ("ENOENT", "SET: ioas_id names no IOAS"),
        ("ENODEV", "GET: none is set"),
    ),
    "IOMMU_HWPT_ALLOC": (
        FLAGS,
        ("EINVAL", "data_len is 0 where data_type is not, or the other way round"),
        ("ENOENT", "dev_id names no device, or fault_id no FAULT"),
        ("EINVAL", "pt_id names nothing, or no IOAS, nesting parent or vIOMMU; the driver refuses the data"),
        (
            "EOPNOTSUPP",
            "the device cannot track dirty pages; NEST_PARENT with a FAULT; the driver lacks flag or data_type",
        ),
        ("EFAULT", "driver data cannot be read"),
        ("EADDRINUSE", "the IOAS holds mappings that the domain cannot"),
    ),
    "IOMMU_GET_HW_INFO": (
        ("EOPNOTSUPP", "a flag is not known; a type without the flag INPUT_TYPE, or one that the hardware has not"),
        NO_ID,
        ("EFAULT", "the data cannot be written"),
    ),
    "IOMMU_HWPT_SET_DIRTY_TRACKING": (
        ("EOPNOTSUPP", "a flag is not known; the HWPT was not allocated with DIRTY_TRACKING"),
        NO_ID,
    ),
    "IOMMU_HWPT_GET_DIRTY_BITMAP": (
        ("EOPNOTSUPP", "a flag or reserved field is not known; the HWPT was not allocated with DIRTY_TRACKING"),
        NO_ID,
        ("EOVERFLOW", "length 0, or the range runs over"),
        ("EINVAL", "iova, length or page_size is misaligned; tracking is off"),
    ),
    "IOMMU_HWPT_INVALIDATE": (
        FLAGS,
        ("EINVAL", "data_uptr 0, or an entry length or number out of bounds, where there are entries"),
        NO_ID,
        ("EINVAL", "hwpt_id names neither a nested HWPT nor a vIOMMU; data_type or an entry is wrong for the driver"),
        ("EOPNOTSUPP", "the driver does not invalidate there, or does not know a flag of an entry"),
        ("EFAULT", "an entry cannot be read"),
        ("E2BIG", "an entry is longer than the driver knows, and not zero there"),
        ("EIO", "the hardware refuses"),
    ),
    "IOMMU_FAULT_QUEUE_ALLOC": (FLAGS,),
    "IOMMU_IOAS_MAP_FILE": (
        FLAGS,
        ("EOVERFLOW", "iova or length is 2^64 - 1, or a range runs over"),
        ("EINVAL", "neither READABLE nor WRITEABLE, length 0, a file that cannot be pinned, or beyond its end"),
        NO_ID,
        ("EBADF", "fd is not open"),
        ("EEXIST", "the range is mapped already"),
        ("ENOSPC", "no IOVA is free where one is to be chosen"),
        ("ENODEV", "a dma-buf was revoked"),
    ),
    "IOMMU_VIOMMU_ALLOC": (
        FLAGS,
        ("EOPNOTSUPP", "type 0, or one that the driver has not"),
        ("ENOENT", "dev_id names no device, or hwpt_id no paging HWPT"),
        ("EINVAL", "the HWPT was not allocated with NEST_PARENT; the driver refuses the data"),
        ("EFAULT", "driver data cannot be read or written"),
    ),
    "IOMMU_VDEVICE_ALLOC": (
        NO_ID,
        ("EINVAL", "the device is behind another IOMMU than the vIOMMU"),
        ("EEXIST", "the device has a vDEVICE, or the virtual id is taken"),
    ),
    "IOMMU_IOAS_CHANGE_PROCESS": (
        FLAGS,
        ("EINVAL", "a mapping is not of a file"),
        ("ENOMEM", "the limit of locked memory is reached"),
    ),
    "IOMMU_VEVENTQ_ALLOC": (
        FLAGS,
        ("EOPNOTSUPP", "type 0"),
        ("EINVAL", "the depth is 0 or above 2^19"),
        NO_ID,
        ("EEXIST", "the vIOMMU has a VEVENTQ of the type"),
    ),
    "IOMMU_HW_QUEUE_ALLOC": (
        FLAGS,
        ("EOPNOTSUPP", "type 0, or one that the driver has not"),
        ("EINVAL", "length 0"),
        ("EOVERFLOW", "the range runs over"),
        ("ERANGE", "the range is longer than whole pages can be"),
        ("ENOENT", "viommu_id names no vIOMMU, or the range is not mapped throughout"),
        ("EADDRINUSE", "a mapping of the IOAS is not aligned to pages"),
        ("EPERM", "the memory is not mapped READABLE"),
        ("EFAULT", "the memory is not physically contiguous"),
        ("EINVAL", "the driver refuses index, length or alignment"),
        ("EEXIST", "the index is taken"),
        ("EIO", "a queue that has to come before is missing"),
    ),
    "VIOMMU_SET_STAGE2": (
        ("ENOTTY", "the policy late_stage2 is off"),
        FLAGS,
        ("ENOENT", "an id names no vIOMMU or no paging HWPT"),
        ("EEXIST", "the vIOMMU stands on a parent"),
        ("EINVAL", "the HWPT was not allocated with NEST_PARENT, or the driver refuses it"),
    ),
    "VIOMMU_SET_FAULT": (
        ("ENOTTY", "the policy viommu_page_requests is off"),
        FLAGS,
        ("ENOENT", "an id names no vIOMMU or no FAULT"),
        ("EEXIST", "the vIOMMU has a FAULT"),
    ),
    "VIOMMU_DEVICE_TLB_INVALIDATE": (
        ("ENOTTY", "the policy device_tlb_invalidation is off"),
        FLAGS,
        ("EINVAL", "entry_num is 0 or above 2^16, or entry_len too short"),
        ("ENOENT", "viommu_id names no vIOMMU, or virt_id no vDEVICE of it"),
        ("EOPNOTSUPP", "the driver cannot, or a flag of an entry is not known"),
        ("EINVAL", "an entry's range or PASID is none"),
        ("EFAULT", "an entry cannot be read"),
        ("E2BIG", "an entry is longer than its structure, and not zero there"),
    ),
}
