"""The built-in methods. Importing one registers it; every method is named here and nowhere else."""

from composer.methods import composite, merge, switch

__all__ = ["composite", "merge", "switch"]
