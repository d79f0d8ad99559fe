"""Tells a model's name from the date of its snapshot, without guessing."""

import re
from typing import Final

_DATE: Final = re.compile(r"(?:-\d{4}-\d{2}-\d{2}|[-@]\d{8})\Z", re.ASCII)


def without_its_date(model: str) -> str:
    """The model's name without the date of a snapshot (`-2024-07-18`, `-20240718`, `@20240718`); else as it is.

    Nothing else is taken off: `-mini` and `-latest` may be other models with other prices.
    """
    return _DATE.sub("", model)
