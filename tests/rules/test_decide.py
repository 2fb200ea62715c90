"""Deciding: who gets it, the sentence that says why, a trace that tells no more than it must."""

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.decide import Decision, decide, emergency_words
from rules.facts import TEXT_LIMIT, Facts
from rules.testing import run_tests
from tests.rules.conftest import NOW, Municipality

CLASSIFY = """
emergency:
  any: [det brenner, "brann i *huset", pustar ikkje]
  none: [det brenner ikke, øvelse]
word_lists:
  vei: [vei, veg, gate]
classify:
  - id: bekymring
    title: Bekymring for barn
    when: {words: {any: [bekymringsmelding, barnevern]}}
    then: {sensitivity: sensitive, kind: bekymringsmelding, tags: [barn, barnevern]}
  - id: innsyn
    title: Innsyn
    when: {sender: no_reply@einnsyn.example}
    then: {kind: innsyn, target: innsyn, tags: innsyn}
  - id: lag
    title: Lag og foreninger
    when: {words: {any: [idrettslag], in: subject}}
    then: {customer: lag, tags: barn}
  - id: samisk
    title: Samisk
    when: {words: {all: [mun, lean]}}
    then: {language: se}
"""
ROUTE = """
- id: byggesak-nabovarsel
  title: Nabovarsel og byggesak
  when:
    channel: [email, web]
    words: {any: [nabovarsel, "byggesak*"], none: [byggestrøm]}
    not: {recipient: "barnevern@*"}
  then: {department: byggesak, tags: [byggesak, barn], target: innsyn}
- id: barnevern
  title: Barnevern
  when: {tags: barnevern}
  then: {department: barnevern}
- id: innsyn-krav
  title: Innsynskrav
  when: {sender: "*@einnsyn.example", attachments: "*.xml"}
  then: {department: dokumentsenter}
- id: lag-utleie
  title: Lag
  when: {customer: lag, words: {all: [leie, gymsal], in: body}}
  then: {department: servicetorg}
- id: vei-apen
  title: Vei når de er på jobb
  when: {words: {any: [$vei, "hull i $vei"]}, open: vei}
  then: {department: vei}
- id: samisk-svar
  title: Samisk
  when: {language: se}
  then: {department: servicetorg}
- id: vakttelefon
  title: Vakttelefonen
  when: {did: "+47638640*"}
  then: {department: beredskap}
- id: valgdag
  title: Valg
  valid: {from: 2027-09-13, to: 2027-09-14}
  when: {channel: web}
  then: {department: servicetorg}
- id: chat
  title: Chat utenom skjema
  when: {channel: chat, not: {words: {any: [skjema]}}}
  then: {department: servicetorg}
- id: ikke-epost
  title: Nødmelding
  when: {tags: nød, channel: sms}
  then: {department: beredskap}
- id: adresser
  title: Avdelingenes egne adresser
  table: {on: recipient, named: department_addresses}
- id: faste
  title: Faste avsendere
  table: {on: sender, rows: {"Roar@roaf.example": vei}}
  then: {tags: partner}
"""


@pytest.fixture
def ruleset(sorum: Municipality):
    return sorum.routes(ROUTE, CLASSIFY)


SENTENCES = [
    (
        {"subject": "Spørsmål om nabovarselet"},
        "byggesak", "words",
        "Rutet til Plan og bygg fordi emnet inneholder «nabovarselet» (regel byggesak-nabovarsel)",
    ),
    (
        {"body": "Min byggesøknad er en byggesak."},
        "byggesak", "words",
        "Rutet til Plan og bygg fordi teksten inneholder «byggesak» (regel byggesak-nabovarsel)",
    ),
    (
        {"channel": "web", "body": "Byggesakene"},
        "byggesak", "words",
        "Rutet til Plan og bygg fordi meldingen inneholder «byggesakene» "
        "(regel byggesak-nabovarsel)",
    ),
    (
        {"body": "En bekymringsmelding"},
        "barnevern", "condition",
        "Rutet til Barneverntjenesten fordi henvendelsen er merket «barnevern» (regel barnevern)",
    ),
    (
        {"sender": "post@einnsyn.example", "attachments": ("Bilde.png", "ORDER.XML")},
        "dokumentsenter", "sender",
        "Rutet til Dokumentsenteret fordi avsenderen passer med *@einnsyn.example "
        "og et vedlegg heter «*.xml» (regel innsyn-krav)",
    ),
    (
        {"subject": "Idrettslaget", "body": "Vi vil leie gymsalen"},
        "servicetorg", "words",
        "Rutet til Servicetorget fordi teksten inneholder «leie» og «gymsalen» "
        "og avsenderen er lag (regel lag-utleie)",
    ),
    (
        {"body": "Hull i vegen", "open": {"vei": True}},
        "vei", "words",
        "Rutet til Vei fordi teksten inneholder «vegen» og Vei er åpen (regel vei-apen)",
    ),
    (
        {"body": "Mun lean Gáivuonas eret"},
        "servicetorg", "condition",
        "Rutet til Servicetorget fordi språket er nordsamisk (regel samisk-svar)",
    ),
    (
        {"channel": "phone", "did": "+4763864012"},
        "beredskap", "did",
        "Rutet til Beredskap fordi det ble ringt til +4763864012 (regel vakttelefon)",
    ),
    (
        {"channel": "chat", "body": "Hei hei"},
        "servicetorg", "condition",
        "Rutet til Servicetorget fordi henvendelsen kom på chat (regel chat)",
    ),
    (
        {"channel": "sms", "body": "Det brenner hos naboen"},
        "beredskap", "emergency",
        "Rutet til Beredskap fordi meldingen inneholder «det brenner» og er merket «nød» "
        "(regel ikke-epost)",
    ),
    (
        {"recipients": ("post@sorum.example", "barnehage@sorum.example")},
        "barnehage", "table",
        "Rutet til Barnehage fordi henvendelsen er sendt til barnehage@sorum.example "
        "(regel adresser)",
    ),
    (
        {"sender": "roar@roaf.example"},
        "vei", "table",
        "Rutet til Vei fordi avsenderen står i tabellen (regel faste)",
    ),
    (
        {"subject": "Hei", "body": "Noe helt annet"},
        "servicetorg", "default",
        "Rutet til Servicetorget fordi ingen regel passet",
    ),
    (
        {"channel": "phone"},
        "servicetorg", "default",
        "Rutet til Servicetorget fordi ingen regel passet",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "department", "reason", "sentence"), SENTENCES)
def test_the_sentence_says_why(ruleset, mail, facts, department, reason, sentence) -> None:
    decision = decide(ruleset, mail(**facts))
    assert (decision.department, decision.reason) == (department, reason)
    assert decision.reason_text == sentence


def test_all_that_classify_says(ruleset, mail) -> None:
    decision = decide(ruleset, mail("Idrettslag", "Bekymringsmelding om nabovarselet og en gutt"))
    assert decision.kind == "bekymringsmelding"
    assert decision.sensitivity == "sensitive"
    assert decision.customer == "lag"
    assert decision.tags == ("barn", "barnevern", "byggesak")
    assert decision.ruleset == ruleset.hash
    assert decision.rule == "byggesak-nabovarsel"
    assert decision.target == "innsyn"


def test_the_target_of_classify_goes_before_that_of_route(ruleset, mail) -> None:
    assert decide(ruleset, mail()).target == "service"
    assert decide(ruleset, mail(sender="no_reply@einnsyn.example")).target == "innsyn"


def test_of_two_values_the_first_stays_and_the_trace_warns(ruleset, mail) -> None:
    decision = decide(ruleset, mail("Barnevern", sender="no_reply@einnsyn.example"))
    assert decision.kind == "bekymringsmelding"
    assert decision.trace["warnings"] == [
        {"rule": "innsyn", "field": "kind", "value": "innsyn", "kept": "bekymringsmelding"}
    ]


def test_every_rule_passed_over_names_its_first_failing_condition(ruleset, mail) -> None:
    trace = decide(
        ruleset, mail(body="Bygget har byggesak og byggestrøm", open={"vei": False})
    ).trace
    assert trace["route"][:4] == [
        {"rule": "byggesak-nabovarsel", "failed": "words", "why": "none: byggestrøm"},
        {"rule": "barnevern", "failed": "tags", "why": "no match"},
        {"rule": "innsyn-krav", "failed": "sender", "why": "field absent"},
        {"rule": "lag-utleie", "failed": "words", "why": "no match"},
    ]
    assert trace["route"][-1] == {"rule": "standard", "hits": []}
    assert trace["open"] == {}


def test_a_hit_shows_keyword_form_token_and_field(ruleset, mail) -> None:
    trace = decide(ruleset, mail("Hull i Nabo-varselet")).trace
    assert trace["route"] == [
        {
            "rule": "byggesak-nabovarsel",
            "hits": [
                {
                    "keyword": "nabovarsel",
                    "form": "nabovarselet",
                    "token": "nabo-varselet",
                    "field": "subject",
                },
                {"field": "channel", "pattern": "email", "value": "email"},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("facts", "rule", "failed", "why"),
    [
        ({"channel": "phone"}, "byggesak-nabovarsel", "words", "field absent"),
        ({"body": "byggesak", "channel": "sms"}, "byggesak-nabovarsel", "channel", "no match"),
        (
            {"body": "byggesak", "recipients": ("barnevern@sorum.example",)},
            "byggesak-nabovarsel",
            "not",
            "matches recipient",
        ),
        ({"body": "skjema", "channel": "chat"}, "chat", "not", "matches words"),
        ({"body": "hull i vegen", "open": {"vei": False}}, "vei-apen", "open", "no match"),
        ({"body": "hull i vegen"}, "vei-apen", "open", "no match"),
        ({"channel": "web"}, "valgdag", "valid", "not yet valid"),
        (
            {"channel": "web", "now": datetime(2027, 9, 13, 22, tzinfo=UTC)},
            "valgdag",
            "valid",
            "no longer valid",
        ),
        ({}, "vakttelefon", "did", "field absent"),
        ({}, "adresser", "table", "field absent"),
        ({"recipients": ("x@y.no",)}, "adresser", "table", "no match"),
        ({"subject": "leie gymsal"}, "lag-utleie", "words", "field absent"),
        ({"body": "leie"}, "lag-utleie", "words", "no match"),
        ({"sender": "x@einnsyn.example"}, "innsyn-krav", "attachments", "field absent"),
    ],
)
def test_why_a_rule_did_not_match(ruleset, mail, facts, rule, failed, why) -> None:
    steps = {step["rule"]: step for step in decide(ruleset, mail(**facts)).trace["route"]}
    assert steps[rule] == {"rule": rule, "failed": failed, "why": why}


def test_a_window_opens_at_local_midnight(ruleset, mail) -> None:
    opens = datetime(2027, 9, 12, 22, tzinfo=UTC)  # summer time

    def rule_at(now: datetime) -> str:
        return decide(ruleset, mail(channel="web", now=now)).rule

    assert rule_at(opens) == "valgdag"
    assert rule_at(opens - timedelta.resolution) == "standard"
    assert rule_at(opens + timedelta(days=1) - timedelta.resolution) == "valgdag"
    assert rule_at(opens + timedelta(days=1)) == "standard"


def test_opening_that_was_asked_for_is_in_the_trace(ruleset, mail) -> None:
    trace = decide(ruleset, mail(body="gata", open={"vei": True, "byggesak": True})).trace
    assert trace["open"] == {"vei": True}


@pytest.mark.parametrize(
    ("text", "emergency"),
    [
        ("Det brenner!", True),
        ("DET BRENNER i låven", True),
        ("Brann i rekkehuset", True),
        ("han pustar  ikkje", True),
        ("Det brenner ikke", False),
        ("Det brenner ikke. Jo, nå: det brenner!", True),
        ("Vi har øvelse, men det brenner", True),
        ("brenner det?", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("field", ["subject", "body"])
def test_the_emergency_guard_prefers_false_alarms(ruleset, mail, text, emergency, field) -> None:
    decision = decide(ruleset, mail(**{field: text}))
    assert decision.emergency is emergency
    assert ("nød" in decision.tags) is emergency
    hit = decision.trace["emergency"]
    assert (hit is not None) is emergency
    assert not emergency or hit["field"] == field
    assert bool(emergency_words(ruleset, text)) is emergency


def test_an_emergency_is_still_routed_by_the_rules(ruleset, mail) -> None:
    decision = decide(ruleset, mail("Byggesak", "Det brenner"))
    assert (decision.department, decision.emergency) == ("byggesak", True)


def test_without_emergency_words_nothing_is_an_emergency(sorum: Municipality, mail) -> None:
    plain = sorum.routes("- {id: a, title: t, when: {channel: web}, then: {department: vei}}")
    assert not decide(plain, mail("Det brenner")).emergency


def test_a_rule_of_exceptions_only_still_has_a_sentence(sorum: Municipality, mail) -> None:
    rules = "- {id: a, title: t, when: {not: {channel: web}}, then: {department: vei}}"
    assert decide(sorum.routes(rules), mail()).reason_text == (
        "Rutet til Vei fordi ingen av unntakene gjelder (regel a)"
    )


def test_three_matched_words_make_a_list(sorum: Municipality, mail) -> None:
    rules = "- {id: a, title: t, when: {words: {all: [vei, gate, sti]}}, then: {department: vei}}"
    assert (
        "«vei», «gata» og «sti»"
        in decide(sorum.routes(rules), mail(body="vei gata sti")).reason_text
    )


def test_language_is_detected_unless_a_rule_says_it(ruleset, mail) -> None:
    assert decide(ruleset, mail("Spørsmål", "Jeg lurer på noe, hva er fristen?")).language == "nb"
    assert decide(ruleset, mail("Spørsmål", "Eg lurer på noko, kva er fristen?")).language == "nn"
    assert decide(ruleset, mail("Hei")).language == "unknown"
    assert decide(ruleset, mail("mun lean")).language == "se"


def test_a_long_text_is_cut_between_words_and_the_trace_says_so(ruleset, mail) -> None:
    filler = "x " * (TEXT_LIMIT // 2 - 5)
    within = decide(ruleset, mail(body=filler + "byggesak"))
    assert (within.department, within.trace["text_cut"]) == ("byggesak", False)
    # The limit falls inside the word, whose first half must not count as a word.
    halved = decide(ruleset, mail(body=filler + "  byggesaksgebyr"))
    assert (halved.department, halved.trace["text_cut"]) == ("servicetorg", True)
    after = decide(ruleset, mail(subject="y " * TEXT_LIMIT, body="byggesak"))
    assert (after.department, after.trace["text_cut"]) == ("servicetorg", True)
    crowded = decide(ruleset, mail(subject="byggesak", body=filler * 2))
    assert (crowded.department, crowded.trace["text_cut"]) == ("byggesak", True)


MIN, MAX = datetime(2026, 1, 1), datetime(2028, 1, 1)  # noqa: DTZ001
VOCABULARY = """
byggesak nabovarselet byggestrøm barnevern idrettslag mun lean vegen gata leie gymsal skjema
det brenner ikke øvelse hemmelig fødselsnummer 01417012345 Kari æøå
"""
words = st.sampled_from(VOCABULARY.split())
texts = st.lists(words, max_size=12).map(" ".join) | st.text(max_size=40)
contacts = st.builds(
    Facts,
    channel=st.sampled_from(["email", "web", "sms", "phone", "chat", "ukjent"]),
    now=st.datetimes(MIN, MAX, timezones=st.just(UTC)),
    recipients=st.lists(
        st.sampled_from(["vei@sorum.example", "barnevern@sorum.example", "post@x.no"]), max_size=3
    ).map(tuple),
    sender=st.sampled_from(["", "no_reply@einnsyn.example", "roar@roaf.example", "kari@x.no"]),
    subject=texts,
    body=texts,
    did=st.sampled_from(["", "+4763864012", "02800"]),
    attachments=st.lists(st.sampled_from(["order.xml", "CV Kari.pdf"]), max_size=2).map(tuple),
    open=st.dictionaries(st.sampled_from(["vei", "byggesak"]), st.booleans()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=contacts)
def test_the_same_facts_give_the_same_decision(ruleset, facts: Facts) -> None:
    before = copy.deepcopy(facts)
    first, second = decide(ruleset, facts), decide(ruleset, facts)
    assert first == second
    assert facts == before
    assert first.department in ruleset.departments
    assert json.loads(json.dumps(first.trace)) == first.trace
    assert hash(first) == hash(second)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=contacts)
def test_the_trace_holds_no_other_text_of_the_mail(ruleset, facts: Facts) -> None:
    told = json.dumps(decide(ruleset, facts).trace, ensure_ascii=False)
    for secret in ("hemmelig", "fødselsnummer", "01417012345", "Kari", "kari@x.no", "roar@"):
        assert secret not in told


def test_decisions_do_not_share_what_can_be_changed(ruleset, mail) -> None:
    first: Decision = decide(ruleset, mail("byggesak"))
    untouched = copy.deepcopy(dict(first.trace))
    second = decide(ruleset, mail("byggesak"))
    for step in second.trace["route"]:
        step.clear()
    assert first.trace == untouched == decide(ruleset, mail("byggesak")).trace


def test_embedded_tests_are_run_and_explained(sorum: Municipality) -> None:
    ruleset = sorum.routes(
        """\
        - id: valgdag
          title: Valg
          valid: {from: 2027-09-13}
          when: {channel: email}
          then: {department: vei, tags: valg}
          tests:
            - {name: i sin tid, given: {subject: hei}, expect: {department: vei, tags: [valg]}}
        - id: forbi
          title: Forbi
          valid: {to: 2020-01-01}
          when: {did: "+47*", open: vei, attachments: a.xml, recipient: "a@*", sender: "b@*"}
          then: {department: vei}
          tests:
            - name: den siste dagen
              given: {did: "+4711", to: A@x.no, from: B@x.no, attachments: a.xml, open: vei}
              expect: {rule: forbi, department: vei, emergency: false, sensitivity: ""}
        - id: brann
          title: Brann
          when: {tags: nød}
          then: {department: beredskap}
          tests:
            - {name: feil avdeling, given: {body: Det brenner}, expect: {department: vei}}
            - {name: feil merke, given: {body: Det brenner}, expect: {tags: [nød, x, y]}}
            - {name: slår til, given: {body: Det brenner}, expect_not: brann}
            - {name: tomt, given: {body: Hei}, expect: {kind: klage}, expect_not: brann}
        """,
        """\
        emergency: {any: det brenner}
        classify:
          - id: a
            title: t
            when: {words: {any: [sak]}}
            then: {kind: x}
            tests:
              - {name: enig, given: {body: sak}, expect: {kind: x}}
              - {name: uenig, given: {body: sak krav}, expect_not: b}
          - id: b
            title: t
            when: {words: {any: [krav]}}
            then: {kind: y}
        """,
    )
    results = run_tests(ruleset)
    assert [(result.name, result.ok) for result in results] == [
        ("enig", True),
        ("uenig", False),
        ("i sin tid", True),
        ("den siste dagen", True),
        ("feil avdeling", False),
        ("feil merke", False),
        ("slår til", False),
        ("tomt", False),
    ]
    messages = {result.name: result.message for result in results if not result.ok}
    assert messages == {
        "uenig": "«b» setter kind til y, men det er allerede x; regelen b skulle ikke slå til "
        "(Rutet til Servicetorget fordi ingen regel passet)",
        "feil avdeling": "department: ventet vei, fikk beredskap "
        "(Rutet til Beredskap fordi teksten inneholder «det brenner» og er merket «nød» "
        "(regel brann))",
        "feil merke": "mangler merkene x, y "
        "(Rutet til Beredskap fordi teksten inneholder «det brenner» og er merket «nød» "
        "(regel brann))",
        "slår til": "regelen brann skulle ikke slå til "
        "(Rutet til Beredskap fordi teksten inneholder «det brenner» og er merket «nød» "
        "(regel brann))",
        "tomt": "kind: ventet klage, fikk ingenting "
        "(Rutet til Servicetorget fordi ingen regel passet)",
    }
    assert {(result.rule, result.file) for result in results} == {
        ("a", "10-regler.yaml"),
        ("valgdag", "10-regler.yaml"),
        ("forbi", "10-regler.yaml"),
        ("brann", "10-regler.yaml"),
    }
    assert results[0].line == 8
    assert NOW.tzinfo is UTC
