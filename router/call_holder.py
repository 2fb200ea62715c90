"""Whose the inquiry of a call is when somebody here talks with the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router import calls, queue, staff
from router.models import InquiryStatus, Staff

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from router.call_models import Call
    from router.number_plan import NumberPlan


def give_to(session: Session, call: Call, username: str) -> None:
    """Whoever talks with the caller has the inquiry, where they have an account that may see it."""
    person = staff.find_staff(session, username)
    if person is None or not person.active:
        return
    call.staff_id = person.id
    inquiry = calls.inquiry_of(session, call)
    actor = staff.actor_of(session, person)
    if inquiry.assignee_id is None and queue.sees(session, actor, inquiry):
        inquiry.assignee_id = person.id


def hand_over(session: Session, call: Call, user: str, plan: NumberPlan, now: datetime) -> None:
    """A transferred call has been taken: the inquiry goes where the colleague works."""
    inquiry = calls.inquiry_of(session, call)
    department = plan.door.people[user].department if user in plan.door.people else ""
    operator = session.get(Staff, call.staff_id) if call.staff_id else None
    if not department or operator is None or inquiry.status is not InquiryStatus.OPEN:
        return
    if inquiry.assignee_id == operator.id:
        inquiry.assignee_id = None
    if inquiry.assignee_id is None and inquiry.department != department:
        session.flush()
        actor = staff.actor_of(session, operator)
        queue.transfer(session, actor, inquiry.ref, department, "", now)
