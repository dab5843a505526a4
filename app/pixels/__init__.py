"""Stored pixels and what is shown of them: describe, decode, window, encode (PS3.3 C.7.6.3, PS3.5 8)."""
