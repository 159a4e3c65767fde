"""One IOMMU instance of a machine: its hardware model, its caches, and what devices send through it."""
