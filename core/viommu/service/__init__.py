"""/dev/iommu for programs that know nothing of this project: the service that `viommu run` starts."""
