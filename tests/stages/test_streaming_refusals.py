"""What a person is told of a refusal: what, where and what to do, in one line, read from no more than that takes."""

import json
import logging

import pytest

from pipeline.errors import ConfigurationError, EndpointFatalError, EndpointRefusedError, EndpointUnreachableError
from pipeline.streaming import check_endpoint, open_client
from tests.fixtures.http_bytes import chunk, gzipped, head, whole
from tests.fixtures.raw_endpoint import PATIENT, Connection, Play, RawEndpoint, answer, in_a_row, raw_endpoint
from tests.fixtures.readings import ENDING, EVENTS, FIRST, Reading, assert_names_where, read_play, read_text
from tests.fixtures.scripted_endpoint import event_of, text_event

OPENROUTERS = {
    "message": "Provider returned error",
    "code": 400,
    "metadata": {
        "raw": json.dumps({"error": {"message": "response_format json_schema is not supported with this model"}}),
        "provider_name": "Somebody",
    },
}


def refusing(status: str, body: bytes, content_type: str = "application/json") -> Play:
    return answer(head(status, content_type=content_type, content_length=str(len(body))), body)


def error_body(**fields: object) -> bytes:
    return json.dumps({"error": fields}).encode()


async def refusal_by(play: Play) -> tuple[EndpointRefusedError, Reading]:
    reading, raw = await read_play(play)
    assert isinstance(reading.error, EndpointRefusedError)
    assert_names_where(reading.error, raw.base_url)
    return reading.error, reading


# In one line


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("400 Bad Request", "RECSTREAM_MODEL"),
        ("401 Unauthorized", "OPENAI_API_KEY"),
        ("402 Payment Required", "no credit left"),
        ("403 Forbidden", "OPENAI_API_KEY"),
        ("404 Not Found", "OPENAI_BASE_URL"),
        ("405 Method Not Allowed", "OPENAI_BASE_URL"),
        ("407 Proxy Authentication Required", "HTTP_PROXY"),
        ("408 Request Timeout", "try again later"),
        ("413 Content Too Large", "fewer candidates"),
        ("422 Unprocessable Content", "RECSTREAM_MODEL"),
        ("429 Too Many Requests", "wait"),
        ("500 Internal Server Error", "try again later"),
        ("501 Not Implemented", "OPENAI_BASE_URL"),
        ("503 Service Unavailable", "try again later"),
        ("304 Not Modified", "OPENAI_BASE_URL"),
    ],
)
async def test_every_error_status_says_what_where_and_what_to_do(status: str, advice: str) -> None:
    refusal, reading = await refusal_by(
        refusing(status, b"" if status.startswith("304") else error_body(message="no!"))
    )
    assert f"answered {status[:3]}: " in str(refusal)
    assert advice in str(refusal)
    assert reading.record.status == int(status[:3])


async def test_an_error_inside_the_stream_says_where_and_what_to_do() -> None:
    refusal, _ = await refusal_by(answer(*whole(text_event("x"), event_of({"error": {"message": "overloaded"}}))))
    assert "sent an error in its stream: overloaded (" in str(refusal)
    assert "try again later" in str(refusal)


async def test_an_error_without_words_says_so() -> None:
    refusal, _ = await refusal_by(refusing("500 Internal Server Error", b""))
    assert "answered 500: it gives no reason (" in str(refusal)


async def test_a_spent_quota_does_not_say_to_wait() -> None:
    body = error_body(message="You exceeded your current quota.", code="insufficient_quota", type="insufficient_quota")
    refusal, _ = await refusal_by(refusing("429 Too Many Requests", body))
    assert type(refusal) is EndpointFatalError
    assert "no credit left" in str(refusal)
    assert "wait" not in str(refusal)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>",
            "a web page titled '502 Bad Gateway'",
        ),
        (
            b"<!DOCTYPE html>\n<!--[if lt IE 7]> <html class='ie6'> <![endif]-->\n<head>\n<title>\n shop.example |"
            b" 524: A timeout&nbsp;occurred\n</title>" + b"<p>x</p>" * 9_000,
            "a web page titled 'shop.example | 524: A timeout occurred'",
        ),
        (b"<h1>oh no</h1>", "a web page without a title"),
        (b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", "AccessDenied Access Denied"),
        (error_body(message="<html><title>busy</title></html>"), "a web page titled 'busy'"),
    ],
    ids=["nginx", "a CDN", "no title", "XML", "inside JSON"],
)
async def test_a_web_page_in_the_place_of_an_error_is_told_by_its_title(page: bytes, words: str) -> None:
    refusal, _ = await refusal_by(refusing("502 Bad Gateway", page, "text/html"))
    assert f"answered 502: {words} (" in str(refusal)


# Without a password


async def test_no_message_shows_the_password_in_an_address() -> None:
    async with raw_endpoint(answer()) as raw:
        endpoint = raw.endpoint(base_url=raw.base_url.replace("://", "://ann:hidden@"))
        reading = await read_text(raw, endpoint)
        async with open_client(endpoint, concurrency=1) as client:
            with pytest.raises(EndpointUnreachableError) as caught:
                await check_endpoint(client, endpoint)
    for error in (reading.error, caught.value):
        assert error is not None
        assert_names_where(error, raw.base_url)
        assert "hidden" not in str(error)


@pytest.mark.parametrize("location", ["ftp://ann:hidden@nowhere/", "http://ann:hidden@[/", "http://ann:hidden@a..b/"])
async def test_no_message_shows_the_password_in_a_redirect(location: str) -> None:
    play = answer(head("307 Temporary Redirect", location=location, content_length="0"))
    reading, raw = await read_play(play)
    assert reading.error is not None
    assert_names_where(reading.error, raw.base_url)
    assert "hidden" not in str(reading.error)


# Without end


def flood(status: str, piece: bytes, sent: list[int], **fields: str) -> Play:
    """An answer that goes on until the client hangs up."""

    async def play(connection: Connection) -> None:
        await answer(head(status, transfer_encoding="chunked", **fields))(connection)
        while True:
            await connection.send(chunk(piece))
            sent.append(len(piece))

    return play


@pytest.mark.parametrize("piece", [b"no! " * 4_000, b"no! " * 20], ids=["much at once", "little by little"])
async def test_an_error_without_end_is_not_read_to_its_end(piece: bytes) -> None:
    sent: list[int] = []
    refusal, _ = await refusal_by(flood("500 Internal Server Error", piece, sent, content_type="text/plain"))
    assert (type(refusal), refusal.status) == (EndpointRefusedError, 500)
    assert f"answered 500: {piece[:3].decode()}" in str(refusal)
    assert sum(sent) < 20_000_000  # what the system's own buffers hold


async def test_a_redirect_whose_page_has_no_end_is_followed() -> None:
    sent: list[int] = []
    away = flood("307 Temporary Redirect", b"moved" * 4_000, sent, location="/v2/chat/completions")
    async with raw_endpoint(away, answer(*whole(text_event(FIRST), *ENDING))) as raw:
        reading = await read_text(raw, raw.endpoint())
        await raw.all_clients_gone()
    assert (reading.text, reading.error) == (FIRST, None)


async def test_an_error_packed_more_than_once_is_not_unpacked() -> None:
    packed = b"".join(gzipped(b"".join(gzipped(error_body(message="no! " * 1_000_000)))))
    coded = head("500 Internal Server Error", content_encoding="gzip, gzip", content_length=str(len(packed)))
    error, _ = await refusal_by(answer(coded, packed))
    assert "no!" not in str(error)


@pytest.mark.parametrize("charset", ["rot13", "hex", "base64_codec", "undefined", "no-such", "utf-8", "latin-1"])
async def test_an_error_in_whatever_charset_is_told(charset: str) -> None:
    error, _ = await refusal_by(
        refusing("400 Bad Request", error_body(message="no!"), f"text/plain; charset={charset}")
    )
    assert "no!" in str(error)


async def test_an_error_that_grows_as_it_is_unpacked_is_cut_short() -> None:
    packed = b"".join(gzipped(error_body(message="no! " * 5_000_000)))
    play = answer(head("500 Internal Server Error", content_encoding="gzip", content_length=str(len(packed))), packed)
    refusal, _ = await refusal_by(play)
    assert "no! no! " in str(refusal)


@pytest.mark.parametrize("status", ["401 Unauthorized", "503 Service Unavailable"])
async def test_the_look_at_an_endpoint_reads_no_error_to_its_end(status: str) -> None:
    async with raw_endpoint(flood(status, b"no! " * 4_000, [])) as raw:
        endpoint = raw.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            caught = None
            try:
                await check_endpoint(client, endpoint)
            except EndpointFatalError as error:
                caught = error
            assert (caught is not None) == status.startswith("401")
        await raw.all_clients_gone()


# The endpoint behind the endpoint


async def test_the_words_of_the_endpoint_behind_this_one_are_told_and_heard(caplog: pytest.LogCaptureFixture) -> None:
    refused = refusing("400 Bad Request", json.dumps({"error": OPENROUTERS}).encode())
    with caplog.at_level(logging.WARNING):
        reading, raw = await read_play(in_a_row(refused, answer(*whole(*EVENTS))))
    assert reading.error is None
    first, second = (json.loads(request.body) for request in raw.requests)
    assert (first["response_format"]["type"], second["response_format"]["type"]) == ("json_schema", "json_object")
    assert "Provider returned error: response_format json_schema is not supported" in caplog.text


async def test_a_part_is_heard_to_be_refused_though_long_words_come_first() -> None:
    words = "The request was looked at with care. " * 20 + "response_format is not supported with this model"
    refused = refusing("400 Bad Request", error_body(message=words))
    reading, raw = await read_play(in_a_row(refused, answer(*whole(*EVENTS))))
    assert reading.error is None
    assert len(raw.requests) == 2


# Before anything is asked


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SSL_CERT_FILE", "/no/such/file", "SSL_CERT_FILE=/no/such/file"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE="),
        ("HTTP_PROXY", "foo://user:secret@host", "HTTP_PROXY"),
    ],
)
async def test_certificates_or_a_proxy_that_cannot_be_used_are_named(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    endpoint = RawEndpoint((), "http://127.0.0.1:9/v1").endpoint(PATIENT, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError, match=words) as refused:
        async with open_client(endpoint, concurrency=1):
            pass
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
