"""Renditions: what is made from instances. The table is the queue, its unique key the single flight."""

from __future__ import annotations

MP4 = "mp4"
MP4_MAKER = 1
"""The maker's version: a new one makes older rows stale."""

WAITING = "rendition_waiting"
READY = "rendition_ready"
