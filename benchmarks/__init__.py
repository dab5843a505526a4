"""Measured promises: each program prints a table beside a rival or a physical limit."""
