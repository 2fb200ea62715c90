"""What a rules file may say, as pydantic models: classify and route rules, tables, tests."""

from __future__ import annotations

from datetime import date  # noqa: TC003  # pydantic needs it
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rules.conditions import Line, Slug, Slugs, Strict, When, Words, one_or_many
from rules.document import fault

Strings = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]


class Valid(Strict):
    """The days in which a rule counts: `from` included, `to` excluded, Norwegian dates."""

    from_: date | None = Field(default=None, alias="from")
    to: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.from_ and self.to and self.from_ >= self.to:
            raise fault("from skal være før to", "from must be before to")
        return self


class Given(Strict):
    """The contact of a test."""

    channel: Slug = "email"
    to: Strings = ()
    from_: str = Field(default="", alias="from")
    subject: str = ""
    body: str = ""
    did: str = ""
    attachments: Strings = ()
    open: Slugs = ()


class Expect(Strict):
    """What a test asks of the decision; only what is named is compared, tags are contained."""

    department: Slug | None = None
    kind: str | None = None
    customer: str | None = None
    sensitivity: str | None = None
    target: Slug | None = None
    language: str | None = None
    rule: Slug | None = None
    emergency: bool | None = None
    tags: Slugs | None = None


class RuleTest(Strict):
    """An example that stands beside its rule."""

    name: Line
    given: Given
    expect: Expect | None = None
    expect_not: Slug | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.expect is None and self.expect_not is None:
            raise fault("trenger expect eller expect_not", "needs expect or expect_not")
        return self


class _Rule(Strict):
    id: Slug
    title: Line
    owner: Line = ""
    valid: Valid | None = None
    tests: tuple[RuleTest, ...] = ()


class Labels(Strict):
    """What a classify rule sets."""

    kind: Slug | None = None
    customer: Slug | None = None
    language: Slug | None = None
    sensitivity: Literal["sensitive"] | None = None
    target: Slug | None = None
    tags: Slugs | None = None


class ClassifyRule(_Rule):
    """A rule of the first pass: every one that matches counts."""

    when: When
    then: Labels


class Destination(Strict):
    """What a route rule sets."""

    department: Slug | None = None
    target: Slug | None = None
    tags: Slugs | None = None


class Table(Strict):
    """Many addresses or numbers and the department of each; named in the configuration or here."""

    on: Literal["recipient", "sender", "did"]
    named: Slug | None = None
    rows: dict[Line, Slug] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.named is None) == (self.rows is None):
            raise fault("trenger enten named eller rows", "needs either named or rows")
        return self


class RouteRule(_Rule):
    """A rule of the second pass: the first one that matches decides."""

    when: When | None = None
    table: Table | None = None
    default: bool = False
    then: Destination = Destination()

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.default and (self.when or self.table or self.valid):
            raise fault(
                "standardregelen har ingen vilkår", "the default rule must have no conditions"
            )
        if not self.default and not self.when and not self.table:
            raise fault("trenger when eller table", "needs when or table")
        if self.table and self.then.department:
            raise fault("tabellen sier avdelingen", "the table names the department")
        if not self.table and not self.then.department:
            raise fault("then: mangler department", "then: department is missing")
        return self


class Emergency(Strict):
    """Words of life and death. A `none` phrase excuses only words that it covers."""

    any_: Words = Field(alias="any")
    none: Strings = ()


class RulesFile(Strict):
    """The top level of a file; rules are validated one by one, so that paths start at the rule."""

    word_lists: dict[Slug, Words] = Field(default_factory=dict)
    emergency: Emergency | None = None
    classify: tuple[Any, ...] = ()
    route: tuple[Any, ...] = ()
