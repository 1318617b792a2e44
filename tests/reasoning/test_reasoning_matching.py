"""What counts as a right answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.tiers.reasoning.answers import DateAnswer, Gold, ListAnswer, NumberAnswer, PremiseAnswer, TextAnswer
from milton_assets.tiers.reasoning.matching import MOST_CHARACTERS, match
from milton_assets.tiers.reasoning.verdict import Reason

PARIS = TextAnswer(accept=("Paris",))
CANBERRA = TextAnswer(accept=("Canberra",))
CAPITAL = "What is the capital?"


def reason(answer: str, gold: Gold, question: str = CAPITAL, rivals: tuple[str, ...] = ()) -> Reason:
    return match(answer, gold, question=question, rivals=rivals).reason


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "paris.",
        "PARIS!",
        "The capital is Paris.",
        "It's Paris, of course",
        "**Paris**",
        "“Paris”",
        "Paris's the one",
        "It is Paris, not Lyon.",
        "Not Lyon, but Paris.",
        "The capital isn't Lyon; it is Paris.",
        "Paris is not only the capital but also the largest city.",
        "There is no doubt it is Paris.",
        "Paris rather than Lyon.",
    ],
)
def test_a_stated_answer_is_right(answer: str) -> None:
    assert reason(answer, PARIS, rivals=("Lyon",)) is Reason.MATCHED


@pytest.mark.parametrize(
    "answer", ["In comparison, nothing.", "Parisian life", "Pari s", "Lutetia", "Parishes", "I do not know."]
)
def test_an_answer_inside_another_word_is_none(answer: str) -> None:
    assert reason(answer, PARIS) is Reason.OPEN


@pytest.mark.parametrize(
    "answer",
    [
        "Not Paris.",
        "It is not Paris.",
        "It isn't Paris.",
        "It can't be Paris",
        "It is certainly not the city of Paris.",
        "Paris is not the capital.",
        "Paris was never the capital.",
        "Any city other than Paris.",
        "Lyon rather than Paris.",
        "Lyon instead of Paris",
        "Neither Lyon nor Paris",
    ],
)
def test_a_denied_answer_is_wrong(answer: str) -> None:
    assert reason(answer, PARIS) is Reason.DENIED


@pytest.mark.parametrize(
    "answer",
    [
        "Either Lyon or Paris.",
        "Paris, London, Berlin, Rome.",
        "It could be Madrid, Rome, Paris or Lisbon",
        "Candidates:\n- Madrid\n- Rome\n- Oslo\n- Paris",
        "1. Madrid\n2. Rome\n3. Oslo\n4. Paris",
        "Madrid. Rome. Oslo. Paris.",
    ],
)
def test_an_answer_that_offers_candidates_is_hedged(answer: str) -> None:
    assert reason(answer, PARIS) is Reason.HEDGED


def test_an_alias_beside_or_is_no_hedge() -> None:
    assert reason("Carbon dioxide or CO2.", TextAnswer(accept=("carbon dioxide", "CO2"))) is Reason.MATCHED


def test_a_place_with_its_region_is_no_hedge() -> None:
    question = "What is the capital of Australia?"
    assert reason("Canberra, Australian Capital Territory, Australia.", CANBERRA, question) is Reason.MATCHED


def test_a_known_wrong_answer_beside_the_right_one_is_wrong() -> None:
    assert reason("Canberra and also Sydney.", CANBERRA, rivals=("Sydney",)) is Reason.RIVAL


def test_a_rival_that_the_question_names_may_be_restated() -> None:
    question = "Why is Sydney the capital of Australia?"
    assert reason("Sydney is large but the capital is Canberra.", CANBERRA, question, ("Sydney",)) is Reason.MATCHED


def test_a_rival_that_is_part_of_the_gold_does_not_compete() -> None:
    gold = TextAnswer(accept=("New York",))
    assert reason("New York", gold, rivals=("York",)) is Reason.MATCHED


@pytest.mark.parametrize(
    ("alias", "answer"),
    [
        ("Brasília", "Brasilia"),
        ("Santa María", "the santa maria"),
        ("D.C.", "Washington DC"),
        ("CO2", "CO₂"),
        ("Tromsø", "Tromso"),
        ("0 °C", "0 °c"),
        ("Hellenic Republic", "the Hellenic  Republic"),
    ],
)
def test_spelling_variants_are_one(alias: str, answer: str) -> None:
    assert reason(answer, TextAnswer(accept=(alias,))) is Reason.MATCHED


def test_a_capital_letter_that_is_a_name_is_no_article() -> None:
    gold = TextAnswer(accept=("vitamin A",))
    assert reason("It is vitamin A.", gold) is Reason.MATCHED
    assert reason("It is vitamin C.", gold) is Reason.OPEN


@pytest.mark.parametrize("answer", ["", "   ", "…", "?!", "\n\n", "**"])
def test_an_answer_without_a_word_is_empty(answer: str) -> None:
    assert reason(answer, PARIS) is Reason.EMPTY


HOURS = "How many minutes are there in three hours?"


@pytest.mark.parametrize(
    "answer",
    [
        "180",
        "180 minutes",
        "There are 180 minutes in three hours.",
        "Three hours have one hundred and eighty minutes.",
        "3 × 60 = 180",
        "60 minutes an hour, times 3, gives 180.",
        "First 60, then 120. The answer is 180.",
        "10,800 seconds",
        "#### 180",
        "180.0",
    ],
)
def test_a_number_is_read_however_it_is_written(answer: str) -> None:
    assert reason(answer, NumberAnswer(value=180, unit="min"), HOURS) is Reason.MATCHED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("90 minutes", Reason.OTHER_VALUE),
        ("180 km", Reason.OTHER_UNIT),
        ("180 hours", Reason.OTHER_VALUE),
        ("1800", Reason.OTHER_VALUE),
        ("180 or 190", Reason.HEDGED),
        ("between 170 and 180", Reason.HEDGED),
        ("120, 160, 170, 180", Reason.HEDGED),
        ("not 180", Reason.OPEN),
        ("many", Reason.OPEN),
        (HOURS, Reason.OPEN),
        ("-180", Reason.OTHER_VALUE),
        ("1e999", Reason.OTHER_VALUE),
    ],
)
def test_another_number_is_wrong(answer: str, expected: Reason) -> None:
    assert reason(answer, NumberAnswer(value=180, unit="min"), HOURS) is expected


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("The fifth", Reason.MATCHED),
        ("5th", Reason.MATCHED),
        ("It was the fifth season.", Reason.MATCHED),
        ("The fourth season.", Reason.OTHER_VALUE),
        ("It was not the fifth season.", Reason.OPEN),
        ("The fourth season or the fifth season.", Reason.OPEN),
        ("Fifth of all, nobody knows.", Reason.OPEN),
    ],
)
def test_a_rank_is_its_number_where_it_is_the_answer(answer: str, verdict: Reason) -> None:
    assert reason(answer, NumberAnswer(value=5), "Which season was it?") is verdict


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Three hours have 180 minutes, because each hour has 60 minutes.", Reason.MATCHED),
        ("180 minutes, as each hour has 60.", Reason.MATCHED),
        ("180 (since 1 hour = 60 minutes)", Reason.MATCHED),
        ("As each hour has 60 minutes, three hours have 180.", Reason.MATCHED),
        ("Because 3 × 60 = 180.", Reason.MATCHED),
        ("60 minutes, because three hours have 180.", Reason.OTHER_VALUE),
        ("180 or 190, because each hour has 60 minutes.", Reason.HEDGED),
        ("Twice as many as 90, that is 180.", Reason.MATCHED),
    ],
)
def test_a_number_in_a_reason_is_not_the_answer(answer: str, expected: Reason) -> None:
    assert reason(answer, NumberAnswer(value=180, unit="min"), HOURS) is expected


def test_a_name_in_a_reason_is_neither_the_answer_nor_a_rival() -> None:
    assert reason("Paris, because Lyon is smaller.", PARIS, rivals=("Lyon",)) is Reason.MATCHED
    assert reason("Rouen, because Paris is too big.", PARIS) is Reason.OPEN
    assert reason("It has been Paris since 1944.", PARIS) is Reason.MATCHED


WAR = "In which year did the Second World War end?"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It began in 1939 and ended in 1945.", Reason.MATCHED),
        ("The war ended in 1945; it had begun in 1939.", Reason.MATCHED),
        ("It ended in 1939 and began in 1945.", Reason.OTHER_VALUE),
        ("It ended in 1944 or 1945.", Reason.HEDGED),
        ("It ended in 1944 and it ended in 1945.", Reason.HEDGED),
        ("It ended in 1945, some say 1944.", Reason.HEDGED),
        ("It perhaps began to end in 1944, and ended in 1945.", Reason.HEDGED),
        ("1939 and 1945.", Reason.HEDGED),
        ("It lasted from 1939 to 1945.", Reason.HEDGED),
    ],
)
def test_of_several_dates_the_answer_is_the_one_of_the_event_that_was_asked_for(answer: str, expected: Reason) -> None:
    assert reason(answer, DateAnswer(year=1945), WAR) is expected


@pytest.mark.parametrize(
    ("answer", "right"), [("273", True), ("273.15 K", True), ("0 °C", True), ("272.9", False), ("32 °F", True)]
)
def test_a_number_is_right_within_its_tolerance_and_in_any_unit_of_its_dimension(answer: str, right: bool) -> None:
    gold = NumberAnswer(value=273.15, unit="K", abs_tol=0.2)
    assert match(answer, gold, question="What is the freezing point?").right is right


@pytest.mark.parametrize(
    "answer",
    [
        "20 July 1969",
        "July 20, 1969",
        "July 20th, 1969",
        "on the 20th of July 1969",
        "1969-07-20",
        "20/07/1969",
        "20 Jul. 1969",
        "It landed on July 20 1969, not on July 16 1969.",
    ],
)
def test_a_date_is_read_however_it_is_written(answer: str) -> None:
    assert reason(answer, DateAnswer(year=1969, month=7, day=20)) is Reason.MATCHED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("21 July 1969", Reason.OTHER_VALUE),
        ("20 July 1968", Reason.OTHER_VALUE),
        ("July 1969", Reason.OPEN),
        ("1969", Reason.OPEN),
        ("07/08/1969", Reason.OPEN),
        ("20 July 1969 or 21 July 1969", Reason.HEDGED),
        ("45 July 1969", Reason.OPEN),
        ("yesterday", Reason.OPEN),
    ],
)
def test_another_date_is_not_right(answer: str, expected: Reason) -> None:
    assert reason(answer, DateAnswer(year=1969, month=7, day=20)) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("March 31, 1889", Reason.MATCHED),
        ("The tower was opened to visitors on 15 May 1889.", Reason.MATCHED),
        ("March 31, 1890", Reason.OPEN),
        ("March 31, 1888, or May 15, 1889", Reason.HEDGED),
        ("May 15, 1889, or March 31, 1888", Reason.HEDGED),
    ],
)
def test_a_year_given_as_a_text_is_named_by_a_date_in_it(answer: str, expected: Reason) -> None:
    assert reason(answer, TextAnswer(accept=("1889",)), "When was the tower opened?") is expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [("Who sings 'If I Had a Boat'?", Reason.MATCHED), ("Who sings 'The Ferry'?", Reason.OPEN)],
    ids=["asked with an if", "asked without"],
)
def test_an_if_of_the_questions_own_puts_nothing_under_a_condition(question: str, expected: Reason) -> None:
    assert reason("'If I Had a Boat' is sung by Paris.", PARIS, question) is expected


def test_a_year_is_found_in_a_full_date() -> None:
    assert reason("On 8 May 1945.", DateAnswer(year=1945)) is Reason.MATCHED


def test_years_that_the_question_gives_are_no_answers() -> None:
    question = "What date is two days after 28 February 2024?"
    gold = DateAnswer(year=2024, month=3, day=1)
    assert reason("Two days after 28 February 2024 is 1 March 2024.", gold, question) is Reason.MATCHED


COLOURS = ListAnswer(items=(("red",), ("green",), ("blue",)))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Red, green and blue.", Reason.MATCHED),
        ("blue; red; green", Reason.MATCHED),
        ("1. Red\n2. Green\n3. Blue", Reason.MATCHED),
        ("The primary colours of light are Green, Red, and Blue. They make White.", Reason.MATCHED),
        ("Red and green.", Reason.INCOMPLETE),
        ("Red and green, not blue.", Reason.INCOMPLETE),
        ("Cyan and magenta.", Reason.OPEN),
        ("Red, orange, yellow, green, blue, indigo, violet.", Reason.HEDGED),
        ("Red, green, blue and yellow.", Reason.HEDGED),
        ("Red, green, blue as well as dark yellow.", Reason.HEDGED),
        ("Red, green and blue, respectively.", Reason.MATCHED),
        ("Red, green and blue, the primary colours.", Reason.MATCHED),
        ("Red, green and blue, since they make all others.", Reason.MATCHED),
    ],
)
def test_a_list_needs_its_items_and_little_else(answer: str, expected: Reason) -> None:
    assert reason(answer, COLOURS, "Name the three primary colours of light.") is expected


def test_a_known_wrong_item_beside_the_right_ones_is_a_rival() -> None:
    question = "Name the three primary colours of light."
    assert reason("Red, green, blue. Also yellow.", COLOURS, question, ("Red, yellow and blue.",)) is Reason.RIVAL
    assert reason("Red, green, blue, not yellow.", COLOURS, question, ("Red, yellow and blue.",)) is Reason.MATCHED


def test_a_longer_name_is_not_the_gold_within_it() -> None:
    points = ListAnswer(items=(("north",), ("south",)))
    assert reason("North and South.", points) is Reason.MATCHED
    assert reason("North, South and North America.", points) is Reason.HEDGED


def test_an_open_list_may_name_others_too() -> None:
    gold = ListAnswer(items=(("red",), ("green",)), open=True)
    assert reason("Red, green and mauve.", gold) is Reason.MATCHED


def test_a_list_may_need_only_some_of_its_items() -> None:
    gold = ListAnswer(items=(("red",), ("green",), ("blue",)), need=2)
    assert reason("Red and blue.", gold) is Reason.MATCHED


NO_WINGS = PremiseAnswer(premise=("four wings",), denied=("wings",), states=("no wings", "zero"))


@given(st.text(max_size=300))
def test_no_text_breaks_the_matcher(text: str) -> None:
    for gold in (PARIS, COLOURS, NO_WINGS, NumberAnswer(value=3, unit="m"), DateAnswer(year=1969, month=7, day=20)):
        assert match(text, gold, question=text, rivals=(text,)).reason in Reason


@given(st.text(alphabet="0123456789.,/ ^x*eE-+ab°%", max_size=60))
def test_no_string_of_digits_breaks_the_matcher(text: str) -> None:
    assert match(text, NumberAnswer(value=3, unit="m"), question="").reason in Reason
    assert match(text, DateAnswer(year=1969, month=7, day=20), question="").reason in Reason


@pytest.mark.parametrize(
    "unit",
    [
        *("a ", "1 ", "one hundred and ", "20 July 1969 ", "Paris or ", "1,234", "(", "3/4 ", "1/2/", "'s", "a."),
        *(
            "=1",
            "1^9",
            "red, green, X, ",
            "1",
            " ",
            "1.1.",
            "1\n",
            "\n",
            "answer is ",
            ", as ",
            "because ",
            "no wings or ",
        ),
    ],
)
def test_the_longest_answer_of_anything_is_matched_in_moments(unit: str) -> None:
    longest = (unit * MOST_CHARACTERS)[:MOST_CHARACTERS]
    began = time.thread_time()
    for gold in (PARIS, COLOURS, NO_WINGS, NumberAnswer(value=3, unit="m"), DateAnswer(year=1969, month=7, day=20)):
        match(longest, gold, question=CAPITAL, rivals=("Lyon",))
    assert time.thread_time() - began < 20, "seconds of this thread's own work, however busy the machine"


def test_an_answer_beyond_the_longest_is_wrong_unread() -> None:
    assert reason("Paris " * MOST_CHARACTERS, PARIS) is Reason.TOO_LONG
