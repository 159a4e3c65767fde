"""AMD-Vi with the hardware vIOMMU: a driver plugin for viommu."""
