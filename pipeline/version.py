"""Which recstream this is."""

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """The version of the installed package; `source` where it runs from a checkout that is not installed."""
    try:
        return version("recstream")
    except PackageNotFoundError:
        return "source"
