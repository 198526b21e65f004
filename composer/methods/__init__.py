"""The built-in methods. Importing one registers it; every method is named here and nowhere else."""

from composer.methods import (
    cat,
    composite,
    dare,
    dare_ties,
    klora,
    knots,
    lego,
    lora_soups,
    magnitude,
    merge,
    nplora,
    opcm,
    regional,
    svd,
    switch,
    ties,
)

__all__ = [
    "cat",
    "composite",
    "dare",
    "dare_ties",
    "klora",
    "knots",
    "lego",
    "lora_soups",
    "magnitude",
    "merge",
    "nplora",
    "opcm",
    "regional",
    "svd",
    "switch",
    "ties",
]
