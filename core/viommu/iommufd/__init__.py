"""The bytes of /dev/iommu: structures, ioctl numbers, sizes, flags and errnos, in the kernel's order."""
