"""What endpoints say in the place of an answer, with a good status, and what is only a model without an idea."""

import pytest

from pipeline.retrying.said_refusals import MOST_SAID, refusal_said

ADDRESS = "http://x/v1"


@pytest.mark.parametrize(
    "said",
    [
        "quota exceeded",
        "Quota exceeded for quota metric 'Generate Content API requests per minute'.",
        "You exceeded your current quota, please check your plan and billing details.",
        "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 600, Used 600.",
        "Error: Too Many Requests",
        "Your credit balance is too low to access the API.",
        "Insufficient credits. Add more to continue.",
        "Please log in to continue.",
        "Invalid API key provided",
        "401 Unauthorized",
        "The server is overloaded, please try again later.",
        '{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}',
        '{"error": "rate limit exceeded"}',
    ],
)
def test_the_words_of_a_limit_a_bill_or_a_login_are_the_endpoints(said: str) -> None:
    refusal = refusal_said(said, ADDRESS)
    assert refusal is not None
    assert str(refusal).startswith(f"{ADDRESS} answered, in the place of recommendations: ")
    assert (refusal.in_band, refusal.status, refusal.retry_after) == (True, None, None)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "I cannot recommend products without more information about the customer.",
        "Here are no products that fit.",
        "[]",
        '{"recommendations": []}',
        '{"recommendations": [{"name": "Quota planner"}]',
        '{"error": "none of the products fits"}',
        "quota exceeded " * (MOST_SAID // 15 + 1),
    ],
)
def test_a_model_that_has_no_idea_is_no_refusal_of_the_endpoint(said: str) -> None:
    refusal = refusal_said(said, ADDRESS)
    assert refusal is None or '{"recommendations"' in said


def test_the_message_is_one_line_whatever_was_said() -> None:
    assert "\n" not in str(refusal_said("Too many requests\nretry\x00 later", ADDRESS))
