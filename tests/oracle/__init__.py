"""A second walker, written from the specifications in plain Python: the judge of the compiled engine.

It shares no code with the engine. Each format module tells its whole walk in the order of its specification,
so that it can be read beside it.
"""
