"""Guests' IOMMUs, run by hardware: registers that guests have, commands and logs in their memory, ids of their own."""
