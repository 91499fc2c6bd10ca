"""Compiles unmodified Metal Shading Language for this processor: compiler.py says how."""
