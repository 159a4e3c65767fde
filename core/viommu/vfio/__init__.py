"""Devices that programs own: PCI functions behind an IOMMU, and the /dev/vfio/devices/vfioN of each."""
