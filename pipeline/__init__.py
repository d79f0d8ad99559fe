"""recstream's pipeline: from a customer's profile to committed recommendations.

The three names below are the Python API for those who bring their own profile and products and need no database.
They are imported at first use, so that a command which only reads a table does not wait for the HTTP client's import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import ProductRecommendation, astream_recommendations, stream_recommendations

__all__ = ["ProductRecommendation", "astream_recommendations", "stream_recommendations"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pipeline import api  # noqa: PLC0415 - the import at first use is this function's purpose

        return getattr(api, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
