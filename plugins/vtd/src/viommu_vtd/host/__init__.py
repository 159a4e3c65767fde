"""What a host kernel's driver does with remapping units: it knows memory, registers and interrupts, and nothing else.

The behaviour is that of Linux 7.2's intel-iommu driver where iommufd can see it: what is checked, in which order, with
which errno; and the order in which structures are written and caches invalidated. `viommu_vtd.driver` has the hooks.
"""
