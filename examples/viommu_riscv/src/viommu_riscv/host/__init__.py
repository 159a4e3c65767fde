"""What a host kernel's driver does with the IOMMU: it knows memory, registers and interrupts, and nothing else."""
