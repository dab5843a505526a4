"""reelweb: a DICOMweb server for moving and still images."""


def __getattr__(name: str) -> str:
    """`__version__`; looked up when somebody asks, for the library that knows it costs a child a third of its start."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - a third of a confined child's start, and it asks for no version

    try:
        return version("reelweb")
    except PackageNotFoundError:  # run from a checkout that is not installed (make run)
        return "0.1.0"
