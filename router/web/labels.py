"""What codes are called in front of people: English here, translated where they are shown.

`N_` only marks a text for the catalogues; `render.label` looks it up.
"""

from __future__ import annotations


def N_(text: str) -> str:  # noqa: N802 - the mark that gettext tools know
    """Mark a text for translation."""
    return text


LABELS: dict[str, dict[str, str]] = {
    "channel": {
        "email": N_("E-mail"),
        "phone": N_("Phone"),
        "sms": N_("SMS"),
        "chat": N_("Chat"),
        "web": N_("Web form"),
        "note": N_("Note"),
    },
    "role": {
        "operator": N_("Operator"),
        "member": N_("Case worker"),
        "lead": N_("Department lead"),
        "admin": N_("Administrator"),
    },
    "presence": {
        "available": N_("Available"),
        "on_phone": N_("On the phone"),
        "meeting": N_("In a meeting"),
        "busy": N_("Busy"),
        "away": N_("Out"),
        "home_office": N_("Working from home"),
        "absent": N_("Absent"),
        "off_hours": N_("Outside working hours"),
        "unknown": N_("Nothing set"),
    },
    "message": {
        "contact": N_("Message from the resident"),
        "form": N_("Message from the resident"),
        "stranger": N_("Message from somebody else than the resident"),
        "reply": N_("Reply from us"),
        "receipt": N_("Automatic receipt"),
        "emergency": N_("Automatic answer about emergency numbers"),
        "forward": N_("Forwarded to another body"),
        "note": N_("Internal note"),
        "auto_reply": N_("Automatic reply from the recipient"),
        "bounce": N_("Returned mail"),
        "bulk": N_("Mass mailing"),
        "spam": N_("Marked as spam"),
    },
    "mark": {
        "signed": N_("Digitally signed; the signature is not checked here"),
        "encrypted": N_("Encrypted; it cannot be read here"),
        "calendar": N_("Invitation to a meeting"),
        "quarantined": N_("Virus found; the files are locked"),
        "unscanned": N_("Not checked for viruses"),
        "several": N_("Sent to several of our addresses"),
        "stranger": N_("From somebody else than the resident"),
    },
    "line": {
        "emergency": N_("Emergency"),
        "sensitive": N_("Sensitive"),
        "external": N_("External"),
        "not_delivered": N_("Reply not delivered"),
        "answered": N_("Answered"),
    },
    "sender": {
        "verified": N_("The sender is confirmed"),
        "failed": N_("The sender is not confirmed"),
        "unchecked": N_("Nobody has checked the sender"),
    },
    "aside": {
        "auto_reply": N_("An automatic reply"),
        "bounce": N_("A delivery report that belongs to nothing we sent"),
        "bulk": N_("A mass mailing"),
        "spam": N_("Marked as spam by the mail system"),
        "contact": N_("Set aside by a rule"),
    },
    "undelivered": {
        "no mailbox": N_("The address does not exist at the recipient."),
        "no domain": N_("The part after @ in the address does not exist, or takes no e-mail."),
        "closed": N_("The recipient's mailbox is closed."),
        "full": N_("The recipient's mailbox is full."),
        "too large": N_("The message is too large for the recipient."),
        "unreachable": N_("The recipient's mail server could not be reached."),
        "content": N_("The recipient's mail server does not take the content."),
        "refused": N_("The recipient's mail server refuses the message."),
        "later": N_("The recipient's mail server asks us to try again later."),
    },
    "parked": {
        "too heavy": N_("Reading it took too long or too much memory."),
        "gone": N_("Its content is missing from the disk."),
        "not stored": N_("It was read, but could not be stored."),
        "fault": N_("The system made a mistake while reading it."),
    },
    "look": {
        "thread": N_("National identity number shown"),
        "original": N_("The original was downloaded"),
        "file": N_("A file was downloaded"),
    },
    "delivery": {
        "queued": N_("Waiting to be sent"),
        "sent": N_("Sent"),
        "uncertain": N_("Uncertain whether it was sent"),
        "failed": N_("Not delivered"),
    },
    "event": {
        "received": N_("Received"),
        "routed": N_("Routed"),
        "message_in": N_("New message in the thread"),
        "automatic_in": N_("Automatic message in the thread"),
        "set_aside": N_("Set aside"),
        "quarantined": N_("Virus found"),
        "scanned": N_("Checked for viruses afterwards: none found"),
        "claimed": N_("Taken"),
        "released": N_("Released"),
        "transferred": N_("Transferred"),
        "returned": N_("Returned to the switchboard"),
        "noted": N_("Note written"),
        "replied": N_("Answered"),
        "delivered": N_("Reply delivered"),
        "not_delivered": N_("Reply not delivered"),
        "uncertain": N_("Uncertain whether the reply was sent"),
        "closed": N_("Closed"),
        "reopened": N_("Reopened"),
        "warned": N_("Deadline warning"),
        "overdue": N_("Overdue"),
        "emergency": N_("Possible emergency"),
        "emergency_seen": N_("Emergency acknowledged"),
        "parked": N_("Could not be read"),
        "addressee_added": N_("Also sent to another of our addresses"),
        "due_changed": N_("New deadline"),
        "revealed": N_("National identity number shown"),
        "resent": N_("Sent once more by hand"),
        "forwarded": N_("Forwarded to another body"),
        "receipt_withheld": N_("Automatic receipt held back"),
        "stuck": N_("Sending has stopped"),
        "address_given": N_("The resident gave an address"),
        "chat_back": N_("The resident is back in the chat"),
        "chat_left": N_("The resident has left the chat"),
        "chat_deferred": N_("The chat became an ordinary inquiry"),
        "chat_mailed": N_("Unread answers were sent by e-mail"),
        "transcript_sent": N_("The conversation was sent by e-mail on wish"),
    },
    "barred": {
        "no sender address": N_("there is no sender to answer"),
        "null envelope sender": N_("the sender does not want answers"),
        "Auto-Submitted": N_("the message was sent by a machine"),
        "Precedence": N_("the message is a mass mailing"),
        "mailing list": N_("the message came by a mailing list"),
        "X-Auto-Response-Suppress": N_("the sender does not want automatic answers"),
        "loop header": N_("the message has been through an automatic answer"),
        "automatic reply header": N_("the message is an automatic reply"),
        "sender takes no replies": N_("the sender does not want answers"),
        "sent by ourselves": N_("the message came from one of our own addresses"),
        "report": N_("the message is a delivery report"),
        "auto reply": N_("the message is an automatic reply"),
        "bounce": N_("the message is a delivery report"),
        "bulk": N_("the message is a mass mailing"),
        "spam": N_("the message is marked as spam"),
        "tagged as spam or virus": N_("the message is marked as spam or virus"),
        "DMARC failed": N_("the sender address may be forged"),
        "not addressed to us": N_("none of our addresses is among the recipients"),
        "unparsed": N_("the message could not be read in full"),
    },
    "withheld": {
        "per_sender_per_day": N_(
            "The automatic receipt was held back: one address gets at most %(most)s automatic"
            " letters a day."
        ),
        "per_inquiry_per_day": N_(
            "The automatic answer was held back: one inquiry gets at most %(most)s of them a day."
        ),
        "per_domain_per_hour": N_(
            "The automatic receipt was held back: addresses of one domain get at most %(most)s"
            " automatic letters an hour."
        ),
        "per_hour": N_(
            "The automatic receipt was held back: at most %(most)s automatic letters go out in an"
            " hour."
        ),
    },
    "outcome": {
        "no match": N_("Did not fit"),
        "field absent": N_("The inquiry has no such field"),
    },
    "field": {
        "subject": N_("subject"),
        "body": N_("text"),
        "recipient": N_("recipient"),
        "sender": N_("sender"),
        "did": N_("number dialled"),
        "attachments": N_("attachment"),
        "channel": N_("channel"),
        "language": N_("language"),
        "tags": N_("tag"),
        "customer": N_("kind of customer"),
        "open": N_("opening hours"),
        "words": N_("words"),
        "table": N_("table"),
        "valid": N_("period"),
        "not": N_("exception"),
    },
    "done": {
        "claimed": N_("You have taken the inquiry."),
        "released": N_("You have released the inquiry. It is back in the queue."),
        "transferred": N_("The inquiry has been transferred."),
        "returned": N_("The inquiry has been returned to the switchboard."),
        "noted": N_("The note has been saved."),
        "replied": N_("The reply is on its way. Its delivery is shown in the thread."),
        "replied_closed": N_("The reply is on its way, and the inquiry is closed."),
        "closed": N_("The inquiry is closed."),
        "reopened": N_("The inquiry is open again, with its old deadline."),
        "moved": N_("The inquiry is in the queue now, with its old deadline."),
        "seen": N_("The emergency has been acknowledged."),
        "aside_closed": N_("What you marked is closed."),
        "none_marked": N_("Mark something first."),
        "none_free": N_("There are no unclaimed inquiries in this list."),
        "retried": N_("It is being tried again."),
        "saved": N_("Saved."),
        "presence_set": N_("It is set."),
        "presence_cleared": N_("It is taken back."),
        "password_changed": N_("The password has been changed."),
        "signed_out": N_("You are signed out."),
    },
    "language": {"nb": "Bokmål", "nn": "Nynorsk", "en": "English"},
}
"""Kind of code -> code -> what people see."""

MESSAGES = frozenset(
    {
        N_("The inquiry is closed. Reopen it first."),
        N_("The inquiry lies aside. Move it to the queue first."),
        N_("The inquiry is already with that department."),
        N_("Say why it is returned, so that the switchboard can send it on."),
        N_("The inquiry is already with the switchboard."),
        N_("The note is empty."),
        N_("The inquiry has changed since you opened it. Read it again first."),
        N_("This token belongs to no person, so it cannot hold an inquiry."),
        N_("This arrival is not parked."),
        N_("The reply is empty."),
        N_("The reply is too long."),
        N_("The files are larger than 20 MB together."),
        N_("A message takes at most 20 files."),
        N_("There is no e-mail address to reply to. Call the person and write a note."),
        N_("The page was too old. Load it again and repeat what you did."),
        N_("The form was sent from another site."),
        N_("The current password is wrong."),
        N_("A password has 12 to 200 characters."),
        N_("You are not signed in, or your session has ended."),
        N_("They have said themselves where they are. Absence can be set all the same."),
        N_("The end lies in the past."),
        N_("At most 60 days ahead."),
        N_("The note is too long: at most 200 characters."),
    }
)
"""Sentences of errors from elsewhere that are shown; other errors get one by their status."""

STATUS_TITLES = {
    400: N_("The request could not be understood"),
    401: N_("You are not signed in"),
    403: N_("You may not do this"),
    404: N_("We cannot find this page"),
    405: N_("This cannot be done here"),
    409: N_("Somebody else was first"),
    413: N_("This is too large"),
    422: N_("Something is missing"),
    429: N_("Too many attempts"),
    500: N_("Something went wrong with us"),
    503: N_("We cannot take more right now"),
}

STATUS_TEXTS = {
    400: N_("Go back and try again."),
    401: N_("Sign in and try again."),
    403: N_("Your role does not allow this. Ask an administrator if you believe it should."),
    404: N_("The address may be mistyped, or you do not have access."),
    405: N_("Go back and use the buttons on the page."),
    409: N_("The inquiry has changed since you opened it. Read it again first."),
    413: N_("Shorten the text, or send large files in another way."),
    422: N_("Go back, look through what you filled in, and try again."),
    429: N_("Wait a little, then try again."),
    500: N_("What you did may not have been saved. Try again in a moment; the error is logged."),
    503: N_("Nothing is lost, but nothing was saved either. Try again in a minute."),
}
