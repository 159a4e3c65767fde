"""What a host kernel's driver does: it programs the hardware through memory, registers and doorbells alone."""
