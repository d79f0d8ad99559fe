"""The scanner on strings: exactly the items, however the text is split, and never a piece of one."""

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import AnswerCutError
from pipeline.prose import MAX_BLANKS
from pipeline.scanning import MAX_DEPTH, MAX_ITEM_CHARACTERS, ObjectScanner

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

TRICKY_TEXT = st.text(st.sampled_from('{}[]",:\\ \n\u2028é😀aijs'), max_size=10)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TRICKY_TEXT
JSON_VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY_TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEM = st.dictionaries(TRICKY_TEXT, JSON_VALUE, max_size=4)
ITEMS = st.lists(ITEM, max_size=6)
COMPACT_ITEMS = st.lists(st.builds(lambda number, score: {"i": number, "s": score}, st.integers(), st.floats(0, 100)))
CUTS = st.lists(st.integers(0, 400), max_size=12)
LAYOUT = st.sampled_from([{"indent": 2}, {}, {"separators": (",", ":")}, {"ensure_ascii": False}])
ITEM_TEXT = '{"i":1,"s":96}'


def scan(*pieces: str) -> list[str]:
    scanner = ObjectScanner()
    return [raw for piece in pieces for raw in scanner.feed(piece)]


def scan_with_tags(*pieces: str) -> list[str]:
    scanner = ObjectScanner([("<think>", "</think>")])
    return [raw for piece in pieces for raw in scanner.feed(piece)]


def outcome(pieces: list[str]) -> tuple[list[str], bool]:
    """The items, and whether an error ended them."""
    scanner, found = ObjectScanner(), list[str]()
    try:
        for piece in pieces:
            found.extend(scanner.feed(piece))
    except AnswerCutError:
        return found, True
    return found, False


def split(whole: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(places)]


def dumped(value: object, layout: dict[str, object]) -> str:
    return json.dumps(value, **layout)  # type: ignore[arg-type] # json's keywords, of several types


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("no JSON here", []),
        ("[]", []),
        ('{"recommendations":[]}', []),
        ('{ "recommendations" : [ ] }', []),
        (ITEM_TEXT, [ITEM_TEXT]),
        ("{}", ["{}"]),
        (f"[{ITEM_TEXT}]", [ITEM_TEXT]),
        (f"[{ITEM_TEXT},{{}}]", [ITEM_TEXT, "{}"]),
        (f'{{"recommendations":[{ITEM_TEXT},{ITEM_TEXT}]}}', [ITEM_TEXT, ITEM_TEXT]),
        (f'{{"any key":{{"deeper":[{ITEM_TEXT}]}}}}', [ITEM_TEXT]),
        (f'{{"note":{{"n":1}},"list":[{ITEM_TEXT}],"more":{{"n":2}}}}', [ITEM_TEXT]),
        (f"{ITEM_TEXT}\n{ITEM_TEXT}\n", [ITEM_TEXT, ITEM_TEXT]),
        (f"{ITEM_TEXT}{ITEM_TEXT}", [ITEM_TEXT, ITEM_TEXT]),
        (f"{ITEM_TEXT}, {ITEM_TEXT}", [ITEM_TEXT, ITEM_TEXT]),
        (f"```json\n[{ITEM_TEXT}]\n```", [ITEM_TEXT]),
        (f"Here [as asked] is the {{list}}:\n[{ITEM_TEXT}]\nMore [1] {{soon}}?", [ITEM_TEXT]),
        (f"It's 5\" wide: [{ITEM_TEXT}]", [ITEM_TEXT]),
        (f"[[{ITEM_TEXT}]]", [ITEM_TEXT]),
        ('{"i":1,"why":[{"a":1}],"s":9}', ['{"i":1,"why":[{"a":1}],"s":9}']),
        ('[{"why":[{"a":1}],"i":1,"s":9}]', ['{"why":[{"a":1}],"i":1,"s":9}']),
        ('{"list":[{"why":[{"a":1}],"i":1}]}', ['{"why":[{"a":1}],"i":1}']),
        ('{"product_name":"}{]["}', ['{"product_name":"}{]["}']),
        (r'{"product_name":"\"}\\"}', [r'{"product_name":"\"}\\"}']),
    ],
)
def test_items_are_found_in_every_form_of_answer(text: str, items: list[str]) -> None:
    assert scan(text) == items
    assert scan(*text) == items


@pytest.mark.parametrize("key", ["i", "s", "product_id", "product_name", "relevance_score"])
def test_each_item_key_keeps_what_follows_inside_its_object(key: str) -> None:
    text = f'{{"{key}":1,"similar":[{{"i":2}},{{"i":3}}]}}'
    assert scan(text) == scan(*text) == [text]
    escaped = text.replace(key, f"\\u{ord(key[0]):04x}{key[1:]}", 1)
    assert scan(escaped) == scan(*escaped) == [escaped]


@pytest.mark.parametrize("keys", [("id", "score"), ("score", "id")])
def test_both_paired_keys_keep_what_follows_inside_their_object_and_either_alone_does_not(
    keys: tuple[str, str],
) -> None:
    first, second = keys
    text = f'{{"{first}":1,"{second}":2,"similar":[{{"i":2}}]}}'
    assert scan(text) == scan(*text) == [text]
    for wrapper in (text.replace(second, "other"), text.replace(second, first)):
        assert scan(wrapper) == scan(*wrapper) == ['{"i":2}']


@pytest.mark.parametrize(
    "text", ['{"a":1}', '{"a":{"b":1}}', '{"a":{"b":{}},"c":"i"}', '{"id":1,"tags":[1]}', '{"a":}']
)
def test_an_object_that_wraps_nothing_comes_out_for_the_judge(text: str) -> None:
    assert scan(text) == scan(*text) == [text]


@pytest.mark.parametrize("text", ['{"a":[]}', '{"a":{"b":[1]}}', '{"a":{"b":[]},"c":1}', "[1]", '["i",{"a":[', '"i":1'])
def test_a_wrapper_of_nothing_is_no_item(text: str) -> None:
    assert scan(text) == scan(*text) == []


@UNHURRIED
@given(ITEMS, LAYOUT, CUTS)
def test_of_any_list_exactly_its_items_are_found(
    items: list[object], layout: dict[str, object], cuts: list[int]
) -> None:
    found = scan(*split(dumped(items, layout), cuts))
    assert [json.loads(raw) for raw in found] == items


@UNHURRIED
@given(st.sampled_from(["recommendations", "items", "réponse", 'with "quotes" {']), ITEMS, LAYOUT, CUTS)
def test_of_a_list_under_any_key_exactly_its_items_are_found(
    key: str, items: list[object], layout: dict[str, object], cuts: list[int]
) -> None:
    found = scan(*split(dumped({key: items}, layout), cuts))
    if items or "\\" not in json.dumps(key):
        assert [json.loads(raw) for raw in found] == items


@UNHURRIED
@given(COMPACT_ITEMS, st.sampled_from(["", " ", "\n", ", "]), CUTS)
def test_of_objects_in_a_row_exactly_those_are_found(items: list[object], between: str, cuts: list[int]) -> None:
    texts = [json.dumps(item) for item in items]
    assert scan(*split(between.join(texts), cuts)) == texts


@UNHURRIED
@given(COMPACT_ITEMS, st.integers(0, 300))
def test_a_cut_gives_the_items_that_were_whole_and_no_other(items: list[object], cut: int) -> None:
    text = json.dumps({"recommendations": items})[:cut]
    found = scan(text)
    assert [json.loads(raw) for raw in found] == items[: len(found)]
    assert len(found) == text.count("}") - (text == json.dumps({"recommendations": items}))


def test_a_score_that_was_cut_is_not_a_smaller_score() -> None:
    assert scan('[{"product_id":"1","relevance_score":0.9') == []
    assert scan('[{"product_id":"1","relevance_score":0.9', "6}]") == ['{"product_id":"1","relevance_score":0.96}']


@UNHURRIED
@given(st.text(st.sampled_from('{}[]",:\\ \nis1a'), max_size=60) | st.text(max_size=60), CUTS)
@example('{"a":[}{"i":1}', [])
@example('{ "', [1])
def test_any_text_is_read_without_a_crash_and_without_regard_to_its_split(text: str, cuts: list[int]) -> None:
    assert outcome(split(text, cuts)) == outcome([text])
    assert outcome(list(text)) == outcome([text])


@UNHURRIED
@given(st.text(st.sampled_from('{}[]",:\\ \nis1a'), max_size=60))
def test_every_item_is_a_balanced_piece_of_the_text(text: str) -> None:
    for raw in outcome([text])[0]:
        assert raw in text
        assert raw.startswith("{")
        assert raw.endswith("}")


@UNHURRIED
@given(
    st.integers(MAX_BLANKS - 2, MAX_BLANKS + 2), st.sampled_from(["{", "["]), st.sampled_from(['"i":1}', '{"i":1}]'])
)
def test_blanks_after_a_bracket_are_bounded_without_regard_to_the_split(blanks: int, bracket: str, rest: str) -> None:
    text = bracket + " " * blanks + rest
    assert outcome(list(text)) == outcome([text])


def test_a_model_lost_in_blanks_costs_no_memory() -> None:
    scanner = ObjectScanner()
    for _ in range(100):
        assert list(scanner.feed("{" + "\n" * 10_000)) == []
    assert list(scanner.feed(ITEM_TEXT)) == [ITEM_TEXT]


def test_a_malformed_object_does_not_swallow_those_that_follow() -> None:
    found = scan('{"recommendations":[{"i":1,"s":[9},{"i":2,"s":8},{"i":3,"s":7]},{"i":4,"s":6}]}')
    assert found == ['{"i":1,"s":[9}', '{"i":2,"s":8}', '{"i":3,"s":7]}', '{"i":4,"s":6}']


def test_a_bracket_that_closes_nothing_does_not_end_the_object_around_it() -> None:
    assert scan('{"a":1],"i":1}') == scan(*'{"a":1],"i":1}') == ['{"a":1],"i":1}']
    spoilt = '{"i":1' + ',"a":[]' * 2 * MAX_DEPTH + ',"b":[1}'
    assert scan(f"[{spoilt},{ITEM_TEXT}]") == [spoilt, ITEM_TEXT]


def test_it_tells_whether_the_answer_ends_inside_its_json() -> None:
    scanner = ObjectScanner()
    states = [(list(scanner.feed(piece)), scanner.unfinished)[1] for piece in ("[", '{"i":1', "}", ",", "{", "}", "]")]
    assert states == [False, True, True, True, True, True, False]


@pytest.mark.parametrize("size", [MAX_ITEM_CHARACTERS, MAX_ITEM_CHARACTERS + 1, 2 * MAX_ITEM_CHARACTERS])
@pytest.mark.parametrize("around", [("", ""), ("[", "]"), ('{"list":[', "]}")])
def test_an_item_beyond_the_bound_comes_out_cut_whatever_the_split(size: int, around: tuple[str, str]) -> None:
    item = '{"i":"' + "x" * (size - 8) + '"}'
    text = around[0] + item + around[1] + ITEM_TEXT
    expected = ([item[: MAX_ITEM_CHARACTERS + 1], ITEM_TEXT], False)
    assert outcome([text]) == expected
    assert outcome([text[:10], text[10:-20], text[-20:]]) == expected
    assert outcome(split(text, list(range(0, len(text), 1_000)))) == expected


@pytest.mark.parametrize(("size", "comes_out"), [(MAX_ITEM_CHARACTERS, True), (MAX_ITEM_CHARACTERS + 1, False)])
@pytest.mark.parametrize("facts", ["", '"b":{},'])
def test_an_object_without_an_item_key_comes_out_up_to_the_bound(facts: str, size: int, comes_out: bool) -> None:
    thoughts = "{" + facts + '"a":"'
    item = thoughts + "x" * (size - len(thoughts) - 2) + '"}'
    expected = ([item, ITEM_TEXT] if comes_out else [ITEM_TEXT], False)
    for cuts in ([], [10, size - 10], [size - 1], list(range(0, size, 1_000))):
        assert outcome(split(item + ITEM_TEXT, cuts)) == expected


@pytest.mark.parametrize(("key_ends", "comes_out"), [(MAX_ITEM_CHARACTERS, True), (MAX_ITEM_CHARACTERS + 1, False)])
def test_an_item_key_counts_up_to_the_bound(key_ends: int, comes_out: bool) -> None:
    item = '{"a":"' + "x" * (key_ends - 11) + '","i":1,"s":2}'
    assert item[:key_ends].endswith('"i"')
    expected = ([item[: MAX_ITEM_CHARACTERS + 1], ITEM_TEXT] if comes_out else [ITEM_TEXT], False)
    for cuts in ([], [10, key_ends - 10], [key_ends - 2], list(range(0, len(item), 1_000))):
        assert outcome(split(item + ITEM_TEXT, cuts)) == expected


@pytest.mark.parametrize("between", ["\n", ",", ""])
@pytest.mark.parametrize("begin", ["", "[", '{"list":['])
def test_items_in_many_pieces_are_found_however_far_from_the_start(begin: str, between: str) -> None:
    items = [f'{{"why":{{"n":[{number}]}},"i":{number},"s":{"9" * 5_000}}}' for number in range(50)]
    text = begin + between.join(items)
    assert len(text) > 2 * MAX_ITEM_CHARACTERS
    assert scan(*split(text, list(range(0, len(text), 97)))) == items


def test_what_comes_before_a_list_may_be_of_any_length() -> None:
    text = '{"thoughts":"' + "x" * 2 * MAX_ITEM_CHARACTERS + '","list":[{"i":1}]}'
    assert outcome([text]) == outcome(split(text, list(range(0, len(text), 1_000)))) == (['{"i":1}'], False)


def test_the_memory_of_an_item_without_end_is_bounded() -> None:
    scanner = ObjectScanner()
    for piece in ['[{"i":"', *["x" * 10_000] * 1_000]:
        assert list(scanner.feed(piece)) == []
    assert sum(map(len, scanner._kept)) <= MAX_ITEM_CHARACTERS + 20_000


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH, 3 * MAX_DEPTH])
def test_depth_does_not_hide_what_follows(depth: int) -> None:
    deep = '{"a":' + "[" * depth + '"]"' + "]" * depth + "}"
    for text in (f"[{deep},{ITEM_TEXT}]", f'{{"deep":{"[" * depth}{"]" * depth},"list":[{ITEM_TEXT}]}}'):
        assert scan(text)[-1] == scan(*text)[-1] == ITEM_TEXT


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 3 * MAX_DEPTH])
@pytest.mark.parametrize(("begin", "end"), [("", ""), ("[", "]"), ('[{"i":', "}]"), ('{"i":', "}"), ('{"a":[', "]}")])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_it_counts_brackets_at_any_depth(begin: str, end: str, opens: str, closes: str, depth: int) -> None:
    scanner = ObjectScanner()
    text = begin + opens * depth + closes * depth + end
    *inside, last = [(list(scanner.feed(character)), scanner.unfinished)[1] for character in text]
    assert all(inside[len(begin + opens) :])
    assert not last
    assert list(scanner.feed(ITEM_TEXT)) == [ITEM_TEXT]


def test_reasoning_between_tags_is_not_read() -> None:
    for thought in ('{"i":9,"s":1}', '[{"i":9', "{", '"', "</thin", "<think>"):
        text = f"\n<think>{thought}</THINK> so: [{ITEM_TEXT}]"
        assert scan_with_tags(text) == scan_with_tags(*text) == [ITEM_TEXT]


def test_reasoning_that_shows_itself_only_at_its_end_is_an_error_once_objects_came_out_of_it() -> None:
    assert scan_with_tags(f"I think {{so}} </think> [{ITEM_TEXT}]") == [ITEM_TEXT]
    with pytest.raises(AnswerCutError, match="</think>"):
        scan_with_tags(f"Perhaps {ITEM_TEXT}? </think> [{ITEM_TEXT}]")


@pytest.mark.parametrize("tag", ["<Think>", "[LONG-Thoughts/]", "<" + "a" * 38 + ">"])
def test_tags_are_found_in_any_case_and_however_they_are_cut(tag: str) -> None:
    opens, closes = tag, tag[0] + "/" + tag[2:]
    text = f"<{{ [ {opens.upper()}{ITEM_TEXT}{closes.lower()} so: {ITEM_TEXT}"
    for pieces in ([text], list(text), *([text[:place], text[place:]] for place in range(len(text)))):
        scanner = ObjectScanner([("<other>", "</other>"), (opens, closes)])
        assert [raw for piece in pieces for raw in scanner.feed(piece)] == [ITEM_TEXT]


def test_reasoning_ends_at_a_tag_that_comes_in_it_and_at_none_before() -> None:
    pieces = ("<think>a</think><think>b", ITEM_TEXT, "</thi", "nk>", ITEM_TEXT)
    assert scan_with_tags(*pieces) == scan_with_tags("".join(pieces)) == [ITEM_TEXT]


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ('["a"', True),
        ("[1", True),
        ("[-1", True),
        ("[[", True),
        ("[]", True),
        ("[null", True),
        ("[true", True),
        ("[false", True),
        ("[truth", False),
        ("[sic", False),
        ("{a", False),
        ("{}", True),
        ('{"', True),
        ("(1", False),
    ],
)
@pytest.mark.parametrize(
    ("before", "is_start"),
    [
        ("", True),
        (" \n", True),
        ("```\n", True),
        ("So:\n```json\n", True),
        ("<think>a</think>", True),
        ("</think>\n", True),
        ("<think>[1] {</think> \n", True),
        ("See ", False),
        ("See [sic] <", False),
        ("See" + " " * 50, False),
        ("a ```json b ", False),
        ("```" + "j" * 17 + "\n", False),
        (ITEM_TEXT + "\n", False),
        ("[1]", False),
    ],
)
def test_a_bracket_begins_json_by_what_follows_and_a_list_of_values_only_at_the_start(
    before: str, is_start: bool, text: str, is_json: bool
) -> None:
    begins = is_json and (is_start or text.startswith("{"))
    expected = ([ITEM_TEXT] if ITEM_TEXT in before else []) + (["{}"] if text == "{}" else [])
    for pieces in ([before + text], list(before + text), [before, text]):
        scanner = ObjectScanner([("<think>", "</think>")])
        assert [raw for piece in pieces for raw in scanner.feed(piece)] == expected
        assert list(scanner.feed(" ") if begins else []) == []
        assert scanner.unfinished is (begins and text not in {"{}", "[]"})


@pytest.mark.parametrize("bracket", ["{", "["])
@pytest.mark.parametrize("before", ["", "lamp ", "a lamp { " * 500])
def test_blanks_after_a_bracket_do_not_hide_json_wherever_it_begins(before: str, bracket: str) -> None:
    item = '{"i" : 1}' if bracket == "[" else '{ \n "i" : 1}'
    text = before + (f"[ \n {item}]" if bracket == "[" else item)
    assert scan(text) == scan(*text) == scan(before, text.removeprefix(before)) == [item]


def test_an_item_inside_a_text_is_text() -> None:
    assert scan(json.dumps([ITEM_TEXT])) == scan(json.dumps(ITEM_TEXT)) == scan(json.dumps([None, "{}"])) == []


def test_an_answer_in_any_three_pieces_gives_its_items() -> None:
    text = '{"recommendations":[{"i":22,"s":8},{"why":"a \\"quoted\\" [word]","i":13,"s":8},{"i":10,"s":0}]}'
    for first in range(len(text)):
        for second in range(first, len(text)):
            assert len(scan(text[:first], text[first:second], text[second:])) == 3
