"""Recipes that make the shipped models; they are not part of the installed package."""
