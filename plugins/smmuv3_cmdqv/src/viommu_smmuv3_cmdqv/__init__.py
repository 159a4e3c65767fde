"""Arm SMMUv3 with NVIDIA's CMDQV: a driver plugin for viommu."""
