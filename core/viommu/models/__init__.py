"""Device models that come with viommu, and how all that are installed are found."""
