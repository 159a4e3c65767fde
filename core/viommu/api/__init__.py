"""iommufd for Python: the ioctls of an open /dev/iommu as methods of the objects that they make.

Each method makes the ioctl that it is named for, by its structure; what the kernel would refuse is raised as an
`viommu.kernel_errors.KernelError`, an OSError that names object, field, value and bound.
"""
