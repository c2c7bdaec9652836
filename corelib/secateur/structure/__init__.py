"""Which parts of a model go together, what a removal leaves, what that costs: see :mod:`secateur.structure.graph`."""
