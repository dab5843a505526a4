"""The language: tags, UIDs, transfer syntaxes and the one scanner; no I/O, no clock, no loop (PS3.5, PS3.6, PS3.10)."""
