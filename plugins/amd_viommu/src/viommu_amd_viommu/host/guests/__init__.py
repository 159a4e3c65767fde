"""Guests: vIOMMUs and what stands on them, by ioctls (any vIOMMU) and by hardware that runs them."""
