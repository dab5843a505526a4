"""What the committer tells the jobs process: which renditions a new instance wants."""

from __future__ import annotations

MP4 = "mp4"
MP4_MAKER = 1
"""The maker's version: a new one makes older rows stale."""

WAITING = "rendition_waiting"
"""The channel that hurries who leases."""
