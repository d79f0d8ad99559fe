"""What the model is told: a folder's templates, versioned by their content, and the prompt that is made of them.

The static part comes first and is the same for every customer, so that a provider can cache it.
"""

from pipeline.prompts.composing import MAX_LINE_CHARACTERS, Prompt, catalog_line, compose
from pipeline.prompts.templates import Templates, load_templates

__all__ = ["MAX_LINE_CHARACTERS", "Prompt", "Templates", "catalog_line", "compose", "load_templates"]
