"""reelweb: a DICOMweb server for moving and still images."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("reelweb")
except PackageNotFoundError:  # run from a checkout that is not installed (make run)
    __version__ = "0.1.0"
