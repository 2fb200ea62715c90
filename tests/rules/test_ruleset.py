"""Loading rules: what is refused, what is doubted, and what the hash stands for."""

from datetime import date

import pytest

from rules.document import DocumentError
from tests.rules.conftest import DEFAULT, DEPARTMENTS, Municipality


def refused(sorum: Municipality, text: str = "", language: str = "nb", **options) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        sorum.load(text, **options)
    return caught.value.text(language).splitlines()


def route(rule: str) -> str:
    default = "{id: standard, title: t, default: true, then: {department: servicetorg}}"
    return f"route:\n  - {rule}\n  - {default}\n"


VALID = "{id: a, title: t, when: {channel: web}, then: {department: vei}}"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (
            "{id: a, title: t, when: {chanel: web}, then: {department: vei}}",
            "when.chanel: ukjent felt, mente du «channel»?",
        ),
        (
            "{id: a, title: t, when: {channel: mail}, then: {department: vei}}",
            "when.channel: ukjent kanal «mail», mente du «email»?",
        ),
        (
            "{id: a, title: t, when: {words: {some: [x]}}, then: {department: vei}}",
            "when.words.some: ukjent felt; kjente: all, any, in, none",
        ),
        (
            "{id: a, title: t, when: {words: {any: [x], in: [subjekt]}}, then: {department: vei}}",
            "when.words.in.0: ukjent verdi «subjekt», mente du «subject»?",
        ),
        (
            "{id: a, title: t, when: {words: {any: [vei, 'a*b']}}, then: {department: vei}}",
            "when.words.any.1: «a*b» kan ikke leses; bruk ord, =ord, ord* eller *ord",
        ),
        (
            "{id: a, title: t, when: {words: [{any: [x]}, {all: [$vi]}]}, then: {department: vei}}",
            "when.words.1.all.0: ukjent ordliste «$vi»",
        ),
        (
            "{id: a, title: t, when: {words: {in: subject}}, then: {department: vei}}",
            "when.words: trenger any, all eller none",
        ),
        (
            "{id: a, title: t, when: {words: {any: []}}, then: {department: vei}}",
            "when.words.any: trenger minst 1",
        ),
        (
            "{id: a, title: t, when: {not: {recipient: '*'}}, then: {department: vei}}",
            "when.not.recipient: trenger tegn ved siden av *",
        ),
        (
            "{id: a, title: t, when: {did: 6386abc}, then: {department: vei}}",
            "when.did: «6386abc» er ikke et telefonnummer, som +4763864000 eller +476386*",
        ),
        (
            "{id: a, title: t, when: {open: veii}, then: {department: vei}}",
            "when.open: ukjent avdeling «veii», mente du «vei»?",
        ),
        (
            "{id: a, title: t, when: {language: nynorsk}, then: {department: vei}}",
            "when.language: ukjent språk «nynorsk»; kjente: da, en, nb, nn, pl",
        ),
        (
            "{id: a, title: t, when: {tags: barnevern}, then: {department: vei}}",
            "when.tags: ingen regel i classify setter «barnevern»; kjente: nød",
        ),
        (
            "{id: a, title: t, when: {customer: lag}, then: {department: vei}}",
            "when.customer: ingen regel i classify setter «lag»",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: byggesakk}}",
            "then.department: ukjent avdeling «byggesakk», mente du «byggesak»?",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei, target: insyn}}",
            "then.target: ukjent svarfrist «insyn», mente du «innsyn»?",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei, kind: x}}",
            "then.kind: ukjent felt; kjente: department, tags, target",
        ),
        ("{id: a, title: t, when: {channel: web}}", "then: mangler department"),
        ("{id: a, title: t, then: {department: vei}}", "trenger when eller table"),
        ("{title: t, when: {channel: web}, then: {department: vei}}", "id: mangler"),
        (
            "{id: a, title: t, default: true, when: {channel: web}, then: {department: vei}}",
            "standardregelen har ingen vilkår",
        ),
        (
            "{id: a, title: t, table: {on: recipient, named: adresser}}",
            "table.named: ukjent tabell «adresser»; kjente: department_addresses",
        ),
        (
            "{id: a, title: t, table: {on: recipient, rows: {a@b: veii}}}",
            "table.rows.a@b: ukjent avdeling «veii», mente du «vei»?",
        ),
        ("{id: a, title: t, table: {on: recipient}}", "table: trenger enten named eller rows"),
        (
            "{id: a, title: t, table: {on: did, rows: {+47: vei}}, then: {department: vei}}",
            "tabellen sier avdelingen",
        ),
        (
            "{id: a, title: t, valid: {from: 2026-13-01}, when: {channel: web}, "
            "then: {department: vei}}",
            "valid.from: skal være en dato, som 2026-12-24",
        ),
        (
            "{id: a, title: t, valid: {from: 2027-01-01, to: 2026-01-01}, when: {channel: web}, "
            "then: {department: vei}}",
            "valid: from skal være før to",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei}, "
            "tests: [{name: x, given: {subjekt: y}, expect: {department: vei}}]}",
            "tests.0.given.subjekt: ukjent felt, mente du «subject»?",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei}, "
            "tests: [{name: x, given: {channel: fax}, expect: {department: vei}}]}",
            "tests.0.given.channel: ukjent kanal «fax»; kjente: chat, email, phone, sms, web",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei}, "
            "tests: [{name: x, given: {}, expect_not: aa}]}",
            "tests.0.expect_not: ukjent regel «aa»",
        ),
        (
            "{id: a, title: t, when: {channel: web}, then: {department: vei}, "
            "tests: [{name: x, given: {}}]}",
            "tests.0: trenger expect eller expect_not",
        ),
        ("{id: Å B, title: t, when: {channel: web}, then: {department: vei}}", "id: passer ikke"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(
    sorum: Municipality, rule: str, complaint: str
) -> None:
    lines = refused(sorum, route(rule))
    assert lines[0].startswith(f"10-regler.yaml:2: {complaint}")


def test_lines_are_those_of_the_part_and_english_is_there_too(sorum: Municipality) -> None:
    text = """\
        route:
          - id: a
            title: t
            when:
              channel: [web]
              words:
                any:
                  - vei
                  - $vegg
            then:
              department: veii
        word_lists:
          veg: [veg, "a*b"]
        """
    assert refused(sorum, text, "en") == [
        "10-regler.yaml:9: when.words.any.1: unknown word list “$vegg”, did you mean “veg”?",
        "10-regler.yaml:11: then.department: unknown department “veii”, did you mean “vei”?",
        "10-regler.yaml:13: word_lists.veg.1: “a*b” cannot be read; "
        "use word, =word, word* or *word",
        "sorum: route: the default rule (default: true) at the end is missing",
    ]


def test_problems_of_all_files_come_at_once(sorum: Municipality) -> None:
    sorum.write("classify:\nroute: a: b", "10-a.yaml")
    sorum.write("rute: []\n", "20-b.yaml")
    sorum.write("classify:\n  - x\nroute:\n", "30-c.yaml")
    sorum.write("classify:\n  - {id: x}\n", "40-d.yaml")
    assert [line.split(": ")[0] for line in refused(sorum)] == [
        "10-a.yaml:2",
        "20-b.yaml:1",
        "30-c.yaml:3",
        "40-d.yaml:2",
        "40-d.yaml:2",
        "40-d.yaml:2",
    ]


def test_nothing_is_said_about_what_could_not_be_read(sorum: Municipality) -> None:
    sorum.write(
        "classify:\n  - {id: k, titel: t, when: {channel: web}, then: {tags: x}}", "10.yaml"
    )
    sorum.write(
        "route:\n  - {id: a, title: t, when: {tags: x}, then: {department: vei}, "
        "tests: [{name: n, given: {}, expect_not: standard}]}\n",
        "20.yaml",
    )
    sorum.write("route:\n  - {id: standard, titel: t, default: true}", "30.yaml")
    assert {line.split(":")[0] for line in refused(sorum)} == {"10.yaml", "30.yaml"}


def test_files_count_by_name_and_rules_by_position(sorum: Municipality) -> None:
    sorum.write(
        "route:\n  - {id: standard, title: t, default: true, then: {department: vei}}", "90.yaml"
    )
    sorum.write(
        f"route:\n  - {VALID}\n  - {VALID.replace('id: a', 'id: b').replace('web', 'sms')}",
        "10.yaml",
    )
    sorum.write("", "50-tom.yaml")
    sorum.write("ikke en regelfil: [", "LES-MEG.txt")
    assert [rule.id for rule in sorum.load().rules] == ["a", "b", "standard"]


def test_one_default_and_it_is_last(sorum: Municipality) -> None:
    default = "{id: standard, title: t, default: true, then: {department: vei}}"
    assert refused(sorum, f"route:\n  - {default}\n  - {VALID}") == [
        "10-regler.yaml:2: default: standardregelen skal stå sist, men «a» kommer etter"
    ]
    second = default.replace("standard", "annen")
    assert refused(sorum, f"route:\n  - {default}\n  - {second}") == [
        "10-regler.yaml:3: default: det finnes allerede en standardregel"
    ]
    assert refused(sorum, "classify: []") == [
        "sorum: route: mangler en standardregel (default: true) til slutt"
    ]


def test_an_id_names_one_rule_over_all_files_and_passes(sorum: Municipality) -> None:
    sorum.write(
        "classify:\n  - {id: standard, title: t, when: {channel: web}, then: {kind: x}}", "10.yaml"
    )
    sorum.write(
        "route:\n  - {id: standard, title: t, default: true, then: {department: vei}}", "20.yaml"
    )
    assert refused(sorum) == ["20.yaml:2: id: id-en «standard» er brukt før (10.yaml:2)"]


def test_word_lists_are_unique(sorum: Municipality) -> None:
    sorum.write("word_lists: {vei: [veg]}", "10.yaml")
    sorum.write("word_lists: {vei: [vei]}\n" + route(VALID), "20.yaml")
    assert refused(sorum) == ["20.yaml:1: word_lists.vei: ordlisten finnes fra før"]


def test_classify_cannot_ask_for_what_it_sets(sorum: Municipality) -> None:
    text = """\
        classify:
          - {id: k, title: t, when: {tags: x, language: nn}, then: {tags: [x]}}
        """ + route(VALID).replace("\n", "\n        ")
    assert refused(sorum, text) == [
        "10-regler.yaml:2: when.tags: finnes først i route; classify setter den"
    ]


def test_too_many_rules_are_refused(sorum: Municipality) -> None:
    many = "\n".join(f"  - {VALID.replace('id: a', f'id: r{i}')}" for i in range(2001))
    assert "sorum: over 2000 regler" in refused(sorum, f"route:\n{many}")


UNREACHABLE = [
    ("{channel: [email, web]}", "{channel: web}"),
    ("{channel: web}", "{channel: web, recipient: 'vei@*'}"),
    ("{recipient: 'v*@sorum.example'}", "{recipient: ['vei@sorum.example', 'v*i@sorum.example']}"),
    ("{sender: '*@einnsyn.no'}", "{sender: 'no_reply@einnsyn.no'}"),
    ("{did: '+476386*'}", "{did: '+4763864000'}"),
    ("{attachments: '*.xml'}", "{attachments: order.xml}"),
    ("{words: {any: [byggesak, 'vei*']}}", "{words: {any: [byggesak, veilys]}}"),
    ("{words: {any: [byggesak]}}", "{words: {any: [byggesak], in: subject}}"),
    ("{words: {any: [byggesak]}}", "{words: {all: [byggesak, garasje]}}"),
    ("{words: {all: [byggesak]}}", "{words: {all: [byggesak], none: [garasje]}}"),
    ("{words: {any: [byggesak], none: [strøm]}}", "{words: {any: [byggesak], none: [strøm, x]}}"),
    ("{words: {any: [byggesak]}}", "{words: [{any: [garasje]}, {any: [=byggesak]}]}"),
    ("{open: vei, channel: web}", "{open: [vei, byggesak], channel: web}"),
    (
        "{channel: web, not: {recipient: 'a@*'}}",
        "{channel: web, not: {recipient: ['a@*', 'b@*'], sender: 'x@*'}}",
    ),
    ("{tags: nød}", "{tags: nød, channel: web}"),
]
REACHABLE = [
    ("{channel: web}", "{channel: [email, web]}"),
    ("{channel: web, recipient: 'vei@*'}", "{channel: web}"),
    ("{recipient: 'vei@sorum.example'}", "{recipient: 'v*@sorum.example'}"),
    ("{words: {any: [byggesak]}}", "{words: {any: [byggesak, garasje]}}"),
    ("{words: {any: [byggesak], in: subject}}", "{words: {any: [byggesak]}}"),
    ("{words: {all: [byggesak, garasje]}}", "{words: {all: [byggesak]}}"),
    ("{words: {any: [byggesak], none: [strøm]}}", "{words: {any: [byggesak]}}"),
    (
        "{words: {any: [byggesak], none: [strøm]}}",
        "{words: {any: [byggesak], none: [strøm], in: subject}}",
    ),
    ("{words: [{any: [garasje]}, {any: [byggesak]}]}", "{words: {any: [byggesak]}}"),
    ("{open: [vei, byggesak]}", "{open: vei}"),
    ("{channel: web, not: {recipient: 'a@*'}}", "{channel: web}"),
    ("{channel: web, not: {recipient: 'a@*'}}", "{channel: web, not: {sender: 'a@*'}}"),
    ("{channel: web, not: {recipient: ['a@*', 'b@*']}}", "{channel: web, not: {recipient: 'a@*'}}"),
    (
        "{channel: web, not: {words: {any: [a]}}}",
        "{channel: web, not: {words: {any: [a], in: subject}}}",
    ),
    ("{words: {any: ['gnr bnr']}}", "{words: {any: ['gnr bnr fnr']}}"),
]


def pair(first: str, second: str, extra: str = "") -> str:
    return route(
        f"{{id: a, title: t, when: {first}, then: {{department: vei}}{extra}}}\n"
        f"  - {{id: b, title: t, when: {second}, then: {{department: byggesak}}}}"
    )


@pytest.mark.parametrize(("first", "second"), UNREACHABLE)
def test_a_rule_that_is_never_reached_is_refused(
    sorum: Municipality, first: str, second: str
) -> None:
    assert refused(sorum, pair(first, second)) == [
        "10-regler.yaml:3: when: nås aldri: «a» (10-regler.yaml:2) tar alt dette"
    ]


@pytest.mark.parametrize(("first", "second"), REACHABLE)
def test_a_rule_that_may_be_reached_is_let_pass(
    sorum: Municipality, first: str, second: str
) -> None:
    assert len(sorum.load(pair(first, second)).route) == 3


def test_a_rule_with_a_window_hides_nothing_outside_it(sorum: Municipality) -> None:
    window = ", valid: {from: 2026-01-01}"
    both = pair("{channel: web}", "{channel: web}", window)
    assert len(sorum.load(both).route) == 3
    always = both.replace("byggesak}", "byggesak}, valid: {from: 2026-02-01}")
    assert len(sorum.load(always).route) == 3
    same = both.replace("byggesak}", "byggesak}, valid: {from: 2026-01-01}")
    assert "nås aldri" in refused(sorum, same)[0]


def test_doubts_are_warnings(sorum: Municipality) -> None:
    text = """\
        route:
          - id: kort
            title: t
            valid: {to: 2026-01-01}
            when: {words: {any: [nav, =ppt, "ras*"], none: [sfo]}}
            then: {department: vei}
          - id: uenig
            title: t
            when: {recipient: [vei@sorum.example, barnehage@sorum.example]}
            then: {department: vei}
            tests: [{name: x, given: {to: vei@sorum.example}, expect: {department: vei}}]
          - id: tabell
            title: t
            table: {on: recipient, named: department_addresses}
          - id: standard
            title: t
            default: true
            then: {department: servicetorg}
        """
    warnings = [w.text() for w in sorum.load(text, today=date(2026, 1, 1)).warnings]
    assert warnings == [
        "10-regler.yaml:2: regelen «kort» har ingen test",
        "10-regler.yaml:4: valid.to: regelen gjelder ikke lenger",
        "10-regler.yaml:5: when.words.any.0: «nav» er kort; skriv «=nav» for bare det ordet",
        "10-regler.yaml:5: when.words.none.0: «sfo» er kort; skriv «=sfo» for bare det ordet",
        "10-regler.yaml:9: when.recipient.1: tabellen i «tabell» sender "
        "«barnehage@sorum.example» til barnehage",
    ]
    assert len(sorum.load(today=date(2025, 12, 31)).warnings) == 4
    assert len(sorum.load().warnings) == 4


def test_the_hash_follows_what_decides_and_nothing_else(sorum: Municipality) -> None:
    text = "word_lists: {vei: [vei]}\n" + route(VALID)
    first = sorum.load(text)
    tested = VALID[:-1] + ", tests: [{name: x, given: {channel: web}, expect: {department: vei}}]}"
    assert len(first.hash) == 64
    assert sorum.load("# en kommentar\n" + text).hash == first.hash
    assert sorum.load("word_lists: {vei: [vei]}\n" + route(tested)).hash == first.hash
    assert sorum.load(text.replace("[vei]", "[veg]")).hash != first.hash
    assert sorum.load(text.replace("web", "sms")).hash != first.hash
    assert sorum.load(text, departments=DEPARTMENTS | {"vei": "Veg"}).hash != first.hash
    assert sorum.load(text, targets={"service"}).hash != first.hash

    with_table = route("{id: a, title: t, table: {on: recipient, named: department_addresses}}")
    one = sorum.load(with_table)
    other = sorum.load(with_table, tables={"department_addresses": {"a@b.no": "vei"}})
    assert one.hash != other.hash
    assert '"a@b.no":"vei"' in other.content


def test_departments_may_come_without_names(sorum: Municipality) -> None:
    assert sorum.load(route(VALID), departments=list(DEPARTMENTS)).departments["vei"] == "vei"


def test_a_ruleset_cannot_be_changed(sorum: Municipality) -> None:
    ruleset = sorum.load(route(VALID))
    with pytest.raises(AttributeError):
        ruleset.hash = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ruleset.departments["vei"] = "x"  # type: ignore[index]


def test_the_default_of_the_fixture_is_valid(sorum: Municipality) -> None:
    assert sorum.routes("- " + VALID).rules[-1].id in DEFAULT
