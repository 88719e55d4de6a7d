"""Labelled photos, their roles, their sources, and the proof that roles are disjoint. No torch."""

from .dataset import ROLES, Dataset, Photo, balanced, sample
from .download import download_grocery_store, find_dataset, synthesized
from .layouts import open_dataset
from .overlap import pixel_hash, pixel_hashes, prove_disjoint

__all__ = [
    "ROLES",
    "Dataset",
    "Photo",
    "balanced",
    "download_grocery_store",
    "find_dataset",
    "open_dataset",
    "pixel_hash",
    "pixel_hashes",
    "prove_disjoint",
    "sample",
    "synthesized",
]
