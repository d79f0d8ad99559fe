"""What differs between the endpoints that speak OpenAI's wire, as data: the only place with a provider's name in it.

Each claim has its source beside it: a provider's documentation, its code, or refusals that people have published.
A host that is not here is treated as one that takes everything; its refusals teach `pipeline.terms` the rest.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Provider:
    """What to begin with at one provider's endpoint. `hosts` are names that its host ends in."""

    name: str
    hosts: tuple[str, ...]
    structured_output: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    stream_options: bool = True
    max_tokens: tuple[Literal["max_tokens", "max_completion_tokens"], ...] = ("max_tokens", "max_completion_tokens")
    """The names by which the limit of an answer is given, in the order in which they are tried."""


_NEW_NAME_FIRST: Final = ("max_completion_tokens", "max_tokens")
PROVIDERS: Final = (
    # "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead" (teilomillet/gollm#33).
    Provider("OpenAI", ("api.openai.com",), max_tokens=_NEW_NAME_FIRST),
    # API versions before 2024-08-01-preview refuse json_schema, and older ones stream_options: found out by asking.
    # Models of OpenAI's refuse max_tokens there as well (anomalyco/opencode#37964), Mistral's take nothing else
    # (pydantic/pydantic-ai#6593).
    Provider(
        "Azure",
        ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
        max_tokens=_NEW_NAME_FIRST,
    ),
    # Refuses fields that it does not know; its last chunk has the usage without being asked (BerriAI/litellm#11696).
    # `max_completion_tokens` is such a field (editor-code-assistant/eca#231).
    Provider("Mistral", ("api.mistral.ai",), stream_options=False, max_tokens=("max_tokens",)),
    Provider("Gemini", ("generativelanguage.googleapis.com",)),
    # "response_format: ignored", "stream_options: fully supported" (docs.anthropic.com/en/api/openai-sdk).
    Provider("Anthropic", ("api.anthropic.com",), structured_output="prompt"),
    # Knows text and json_object: "This response_format type is unavailable now" (api-docs.deepseek.com).
    Provider("DeepSeek", ("api.deepseek.com",), structured_output="json_object"),
    # Some of its models know json_schema, others refuse it (console.groq.com/docs/structured-outputs).
    # "max_tokens: deprecated in favor of max_completion_tokens" (console.groq.com/docs/api-reference).
    Provider("Groq", ("api.groq.com",), max_tokens=_NEW_NAME_FIRST),
    Provider("OpenRouter", ("openrouter.ai",)),
)
# vLLM, llama.cpp, Ollama and LiteLLM run under any host. They take json_schema and stream_options; old versions refuse.
ANY_OTHER: Final = Provider("unknown", ())


def provider_at(base_url: str) -> Provider:
    """Whose endpoint this is, by the host's name."""
    try:
        host = (urlsplit(base_url).hostname or "").rstrip(".")
    except ValueError:
        return ANY_OTHER
    known = (
        provider for provider in PROVIDERS if any(host == name or host.endswith(f".{name}") for name in provider.hosts)
    )
    return next(known, ANY_OTHER)


# A finish reason of theirs, in lower case and up to its first colon, and ours. One that is not here stands as it is.
FINISH_REASONS: Final = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "end_turn": "stop",  # Anthropic's own, as proxies pass it on; so are the next two
    "stop_sequence": "stop",
    "tool_use": "stop",
    "eos": "stop",  # Together
    "eos_token": "stop",  # text-generation-inference
    "length": "length",
    "max_tokens": "length",  # Anthropic's and Gemini's own
    "model_length": "length",  # Mistral: the context is full
    "content_filter": "content_filter",  # Gemini says `content_filter: RECITATION`
    "refusal": "content_filter",  # Anthropic's own: its classifiers stopped the answer
    "safety": "content_filter",  # Gemini's own, and the next four
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
}
# Reasons that say that the endpoint broke off: vLLM (abort, error), OpenRouter and Mistral (error), DeepSeek, Gemini.
FAILURE_REASONS: Final = frozenset(
    {"error", "abort", "aborted", "insufficient_system_resource", "malformed_function_call"}
)

# Where counts of tokens stand in a usage object, the first that is there. `input_tokens` is Anthropic's own word.
TOKENS_IN: Final = ("prompt_tokens", "input_tokens")
TOKENS_OUT: Final = ("completion_tokens", "output_tokens")
TOKENS_CACHED: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")  # DeepSeek, Anthropic

# Parts of a content list that are answer. Mistral's `thinking` and Anthropic's `redacted_thinking` are not.
TEXT_PARTS: Final = frozenset({"text", "output_text", "text_delta"})


class ReasoningTag(NamedTuple):
    """What opens and what closes a model's reasoning in its text, in lower case: models vary it."""

    opens: str
    closes: str


# Where the endpoint does not take reasoning out of the text. The models are those of SGLang's and vLLM's parsers.
REASONING_TAGS: Final = (
    ReasoningTag("<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM, MiniMax M2
    ReasoningTag("<thinking>", "</thinking>"),
    ReasoningTag("<thought>", "</thought>"),  # Gemini's compatible endpoint, asked for thoughts
    ReasoningTag("<reasoning>", "</reasoning>"),
    ReasoningTag("<thoughts>", "</thoughts>"),
    ReasoningTag("<reflection>", "</reflection>"),
    ReasoningTag("<analysis>", "</analysis>"),
    ReasoningTag("<scratchpad>", "</scratchpad>"),
    ReasoningTag("<mm:think>", "</mm:think>"),
    ReasoningTag("<longcat_think>", "</longcat_think>"),
    ReasoningTag("<|begin_of_thought|>", "<|end_of_thought|>"),
    ReasoningTag("[thinking]", "[/thinking]"),
    ReasoningTag("<seed:think>", "</seed:think>"),  # Seed-OSS
    ReasoningTag("[think]", "[/think]"),  # Magistral
    ReasoningTag("◁think▷", "◁/think▷"),  # Kimi
    ReasoningTag("<|channel|>analysis", "<|end|>"),  # gpt-oss
    ReasoningTag("<|channel>thought", "<channel|>"),  # Gemma 4
    ReasoningTag("<|start_thinking|>", "<|end_thinking|>"),  # Command A
)

# An error's `code`, `type` or `status`, in lower case, and what it means.
RATE_LIMIT_CODES: Final = frozenset(
    {
        "rate_limit_exceeded",  # OpenAI, Groq
        "rate_limit_error",  # Anthropic
        "rate_limited",  # Mistral
        "resource_exhausted",  # Gemini
    }
)
NO_CREDIT_CODES: Final = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_error",  # Anthropic
    }
)
FATAL_CODES: Final = NO_CREDIT_CODES | frozenset(
    {
        "invalid_api_key",
        "model_not_found",
        "account_deactivated",
        "authentication_error",  # Anthropic, and the next two
        "permission_error",
        "not_found_error",
        "unauthenticated",  # Gemini, and the next
        "permission_denied",
        "deploymentnotfound",  # Azure
    }
)
FATAL_WORDS: Final = ("API key not valid.",)  # Gemini's, which has the status and the code of a bad prompt
PROMPT_CODES: Final = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "content_filter",
        "content_policy_violation",
        "request_too_large",  # Anthropic
        "invalid_argument",  # Gemini
    }
)

# How a refusal names a part of the request, and how it says that this part is not taken (regular expressions, for text
# in lower case): made for the refusals in tests/unit/published_refusals.toml.
PART_NAMES: Final = {
    "structured_output": r"response[_ ]?format|json[_ ]schema|json_object|json mode|structured[_ ]outputs?"
    r"|guided[_ ](?:decoding|json|grammar)|response[_ ]?schema|response[_ ]?mime[_ ]?type"
    r"|(?<=parse )grammar|(?<=initialize )grammar|grammar(?= sampler)",  # not each book on grammar
    "stream_options": r"stream_options|include_usage",
    "temperature": r"temperature",
    "max_tokens": r"max_tokens|max_completion_tokens",
    "service_tier": r"service[_ ]?tier|flex (?:api|processing|tier)",
}
NOT_TAKEN: Final = (
    r"(?:not|n't)(?: \w+){0,2} support|unsupported|no support"
    r"|not(?: \w+){0,2} (?:supported|allowed|permitted|available|accepted|implemented|enabled|recogni[sz]ed)"
    r"|unavailable|enabled only|deprecated|extra_forbidden|cannot find field"
    r"|(?:unknown|unrecogni[sz]ed|unexpected) (?:\w+ ){0,2}(?:parameter|argument|field|name|key|property|variant)"
    r"|only (?:the default|[\d.]+)(?: \S+){0,3} (?:is|are) (?:allowed|supported|accepted)"
)
# The form of the answer is also refused in these ways; for a number they would say that it is out of its range.
FORM_NOT_TAKEN: Final = (
    r"must (?:be|contain)|should be|invalid|expected one of|too complex"
    r"|failed to (?:parse|compile|convert|initialize|build)"
)
# A number is refused in these ways for being out of its range. For the limit of an answer, as much as the model gives
# will do instead; for a temperature, a person has to say another.
OUT_OF_RANGE: Final = r"too large|above maximum|at most|exceeds"
# A refusal with these words is about something else, whatever it says besides.
ABOUT_SOMETHING_ELSE: Final = (
    r"context[_ ](?:length|window|size)|maximum context|too long|too many tokens|content[_ ](?:filter|policy)"
    r"|content management|responsible ?ai|moderation|api[_ ]key|rate[_ ]limit|quota|billing|credits"
    r"|failed_generation|generated json|does not (?:match|validate)"  # this answer was refused, not the request
    r"|messages\W{1,4}\d"  # it complains of a message, and may quote it
)

# How a limit, a bill or a missing login speaks where the answer should be, after a good status (regular expressions,
# for text in lower case): proxies and gateways put the words of the endpoint behind them there.
SAID_INSTEAD: Final = (
    r"\bquota\b|rate[- ]?limit|too many requests|usage limit|\bbilling\b|payment required|payment method"
    r"|(?:insufficient|out of|not enough|no) (?:credits?|balance|funds)|credit balance|exceeded your"
    r"|(?:invalid|incorrect|missing|expired|unknown) api[- _]key|api[- _]key (?:is |has )?(?:not valid|invalid|expired)"
    r"|unauthori[sz]ed|not authori[sz]ed|(?:log|sign) ?in to|please (?:log|sign) ?in|session (?:has )?expired"
    r"|subscription (?:has |is )?(?:expired|inactive|required)|server (?:is )?(?:overloaded|busy)|service unavailable"
    r"|temporarily unavailable|at capacity"
)
