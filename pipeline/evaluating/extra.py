"""Whether the libraries of an evaluation are installed: they are an extra, which nothing else needs."""

from importlib.util import find_spec
from typing import Final

from pipeline.errors import ConfigurationError

_NEEDED: Final = ("numpy", "ir_measures", "pytrec_eval")


def require_extra() -> None:
    """Before anything that measures is imported.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"an evaluation needs {', '.join(missing)}, not installed here: pip install 'recstream[eval]'"
        )
