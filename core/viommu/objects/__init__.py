"""The iommufd object model: IOAS, HWPT, device, access, vIOMMU, vDEVICE, HW_QUEUE, FAULT, VEVENTQ."""
