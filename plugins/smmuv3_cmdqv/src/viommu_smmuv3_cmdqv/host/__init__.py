"""What a host kernel's driver does with SMMUs: it knows memory, registers and interrupts, and nothing else.

The behaviour is that of Linux 7.2's arm-smmu-v3 driver where iommufd can see it: what is checked, in which order, with
which errno; what is written into structures, in which order, and what is invalidated when. `viommu_smmuv3_cmdqv.driver`
has the hooks.
"""
