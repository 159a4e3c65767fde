"""The rules, a module for each area; `viommu.testing.catalogue` finds them all."""
