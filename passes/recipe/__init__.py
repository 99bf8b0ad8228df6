"""Recipes: ordered lists of passes with options, as data, and their tables by role."""

from .recipe import NOTHING, Recipe, Step, load_recipe, recipe_names

__all__ = ["NOTHING", "Recipe", "Step", "load_recipe", "recipe_names"]
