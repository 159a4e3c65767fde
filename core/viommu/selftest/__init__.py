"""The driver `selftest`: the kernel's own mock of an IOMMU, and the ioctl that drives it. The smallest driver."""
