"""Recipes: ordered lists of passes with options, as data, and their tables by role."""

from .recipe import NOTHING, PassEntry, Recipe, load_recipe, recipe_names

__all__ = ["NOTHING", "PassEntry", "Recipe", "load_recipe", "recipe_names"]
