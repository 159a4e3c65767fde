"""Intel VT-d: a driver plugin for viommu."""
