"""Faces: tables, where they come from, and how they reach a network. This file loads nothing."""
