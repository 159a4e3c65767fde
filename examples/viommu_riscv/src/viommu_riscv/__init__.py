"""A RISC-V IOMMU for viommu: somebody else's driver, written with viommu's public names alone."""
