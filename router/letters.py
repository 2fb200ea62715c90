"""What we write by ourselves: receipt, emergency answer, forwarding note, and the frame around a
reply.

Short, in the resident's language, and never a word of what they wrote (RFC 3834 §3.1.8: an
automatic answer
that quotes can be abused to carry a stranger's text).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import phonenumbers
from babel.dates import format_date

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

Language = Literal["nb", "nn", "en"]
_LOCALES = {"nb": "nb_NO", "nn": "nn_NO", "en": "en_GB"}

_READ_BOKMAL = frozenset({"", "unknown", "no", "da", "sv", "se"})
"""Languages without letters of ours whose readers know bokmål; of the empty one nothing is known."""

BETWEEN = "\n* * *\n\n"
"""Stands between the languages of one letter. Not dashes: mail programs hide what is below them."""

TEXTS: dict[str, dict[str, str]] = {
    "nb": {
        "receipt_subject": "Vi har fått henvendelsen din",
        "receipt": (
            "Hei!\n\n"
            "Takk for henvendelsen. Den har fått referansen {ref} og ligger hos {department}.\n"
            "Du får svar senest {due}.\n\n"
            "Følg henvendelsen her:\n{status_url}\n\n"
            "Har du mer å fortelle, svar på denne e-posten. Ikke send fødselsnummer eller andre følsomme\n"
            "opplysninger på e-post. E-post til kommunen kan bli offentlig.\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "receipt_sensitive": (
            "Hei!\n\n"
            "Takk for henvendelsen. Den har fått referansen {ref}. Du får svar senest {due}.\n\n"
            "Følg henvendelsen her:\n{status_url}\n\n"
            "Ikke send følsomme opplysninger på e-post. Ring oss heller.\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "receipt_external": (
            "Hei!\n\n"
            "Takk for henvendelsen. Den har fått referansen {ref}.\n"
            "Dette er det {department} som svarer på, ikke kommunen. Vi har sendt henvendelsen\n"
            "videre dit, og de svarer deg direkte.\n{website}\n"
            "Du kan se henvendelsen her:\n{status_url}\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "referred_external": (
            "Hei!\n\n"
            "Takk for henvendelsen. Den har fått referansen {ref}.\n"
            "Dette er det {department} som svarer på, ikke kommunen.\n{website}\n"
            "Vi ser på henvendelsen din senest {due}. Du kan følge den her:\n{status_url}\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "emergency_subject": "Er det nødvendig med hjelp nå? Ring 110, 112 eller 113",
        "emergency": (
            "Er liv eller helse i fare nå, må du ringe. Vi leser ikke e-post døgnet rundt.\n\n"
            "  110  Brann\n"
            "  112  Politi\n"
            "  113  Ambulanse\n"
            "  116 117  Legevakt\n"
            "  116 111  Alarmtelefonen for barn og unge\n"
            "  116 123  Mental Helse\n\n"
            "Vi har også tatt imot det du skrev, med referansen {ref}:\n{status_url}\n\n"
            "{municipality}\n{phone}\n"
        ),
        "forward_subject": "Videresendt fra {municipality}: {subject}",
        "forward": (
            "Til {department}\n\n"
            "Vi har fått en henvendelse som vi mener hører til hos dere, og sender den videre etter\n"
            "forvaltningsloven § 11. Innbyggeren har fått beskjed om at dere svarer direkte.\n"
            "Hører den ikke til hos dere, svar på denne e-posten.\n\n"
            "Vår referanse: {ref}\n"
            "Fra: {sender}\n"
            "Mottatt: {received}\n\n"
            "{text}\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "forward_unchecked": (
            "[Innbyggeren sendte også filer. De er ikke undersøkt for virus ennå, og er derfor\n"
            "ikke med. Svar på denne e-posten hvis dere trenger dem.]"
        ),
        "reply_end": "\n\nVennlig hilsen\n{staff}{department}, {municipality}\n\nReferanse: {ref}\n{status_url}\n",
        "chat_emergency": (
            "Er liv eller helse i fare nå, må du ringe: brann 110, politi 112, ambulanse 113.\n"
            "Legevakt 116 117. Alarmtelefonen for barn og unge 116 111. Mental Helse 116 123.\n"
            "Vi har sett det du skrev, og varslet dem som sitter her nå."
        ),
        "chat_closed": (
            "Takk for meldingen. Chatten er ikke betjent nå, så vi har registrert den som henvendelse {ref}.\n"
            "Du får svar senest {due}.\n"
            "Følg den her: {status_url}"
        ),
        "chat_unanswered": (
            "Ingen er ledige akkurat nå, så vi har registrert det du skrev som henvendelse {ref}.\n"
            "Du får svar senest {due}. Er du her fortsatt når noen blir ledige, svarer vi deg her.\n"
            "Følg den her: {status_url}"
        ),
        "chat_goes_to": "{who} overtar samtalen og svarer deg her.",
        "chat_casework": (
            "Dette trenger mer enn et svar her og nå, så vi tar det videre som henvendelse {ref}.\n"
            "Du får svar senest {due}. Skriv gjerne her hvis det er mer vi bør vite.\n"
            "Følg den her: {status_url}"
        ),
        "chat_unread": (
            "Hei!\n\n"
            "Du skrev til oss i chatten. Her er svaret, siden du ikke var der lenger:\n\n"
            "{text}"
        ),
        "chat_transcript_subject": "Samtalen din med {municipality}",
        "chat_transcript": (
            "Hei!\n\n"
            "Her er samtalen, slik du ba om. Fødselsnummer er skjult.\n\n"
            "{text}\n\n"
            "Referanse: {ref}\n{status_url}\n\n"
            "Vennlig hilsen\n{municipality}\n{phone}\n"
        ),
        "chat_text": "Vi har svart deg i chatten. Les svaret her: {status_url}",
        "chat_you": "Du",
        "text_receipt": (
            "Hei! {municipality} har fått meldingen din, referanse {ref}. Du får svar senest {due}."
        ),
        "text_external": (
            "Hei! Dette svarer {department} på, ikke {municipality}. Vi har sendt meldingen videre, og de"
            " svarer deg direkte. Referanse {ref}."
        ),
        "text_referred": (
            "Hei! Dette svarer {department} på, ikke {municipality}. Vi ser på meldingen din senest {due}."
            " Referanse {ref}."
        ),
        "text_emergency": (
            "Er liv eller helse i fare, ring 113 (ambulanse), 112 (politi) eller 110 (brann). Legevakt:"
            " 116117. Vi leser ikke SMS døgnet rundt. Ref. {ref}"
        ),
        "text_end": "\n\nHilsen {department}, {municipality}",
        "staff_opening": (
            "{ref}: {subject}\n"
            "{department}. Svarfrist: {due}.\n\n"
            "{lines}\n\n"
            "Det du skriver her, går til innbyggeren. /hjelp viser hva du ellers kan gjøre.\n"
            "{url}"
        ),
        "staff_line": "{clock} {who}: {text}",
        "staff_resident": "Innbyggeren",
        "staff_files": "Vedlegg: {names}. De ligger på siden til henvendelsen: {url}",
        "staff_more": "… Resten står på siden til henvendelsen: {url}",
        "staff_help": (
            "Det du skriver her, går til innbyggeren på den kanalen de bruker.\n"
            "/notat TEKST skriver et notat som blir i huset.\n"
            "/lukk avslutter henvendelsen.\n"
            "/hjelp viser dette.\n"
            "Tar klienten skråstreken selv, virker utropstegn: !notat, !lukk, !hjelp.\n"
            "Skal svaret begynne med et slikt tegn og et ord, skriv tegnet to ganger."
        ),
        "staff_noted": "Notatet er skrevet.",
        "staff_closed": "Henvendelsen er avsluttet. Skriver innbyggeren igjen, hører du det her.",
        "staff_again": (
            "{text}\n\n{ref} er åpen igjen, og ingen har den. Svarer du her, tar du den.\n{url}"
        ),
        "staff_closed_before": "Henvendelsen var alt avsluttet. Ingenting er endret.",
        "staff_closed_reopened": "Du har alt avsluttet henvendelsen, og den er åpnet igjen siden. Ingenting er endret nå.",
        "staff_unknown": "Denne adressen finnes ikke.",
        "staff_held": "{holder} har denne henvendelsen. Du kan skrive et notat: /notat TEKST",
        "staff_full": "Du har så mange chatter som man kan ha, så svaret ble ikke sendt. Gi fra deg eller avslutt en først.",
        "staff_shut": "Henvendelsen er avsluttet. Åpne den på nytt på siden: {url}",
        "staff_no_command": "Kommandoen {command} finnes ikke, så ingenting ble sendt. /hjelp viser dem som finnes.",
        "staff_no_text": "Skriv noe etter kommandoen.",
        "staff_not_sent": "Svaret kan ikke sendes herfra. Se hvorfor på siden til henvendelsen: {url}",
        "no_subject": "Henvendelse",
        "at": "{date} kl. {time}",
        "date": "EEEE d. MMMM y",
    },
    "nn": {
        "receipt_subject": "Vi har fått førespurnaden din",
        "receipt": (
            "Hei!\n\n"
            "Takk for førespurnaden. Han har fått referansen {ref} og ligg hos {department}.\n"
            "Du får svar seinast {due}.\n\n"
            "Følg førespurnaden her:\n{status_url}\n\n"
            "Har du meir å fortelje, svar på denne e-posten. Ikkje send fødselsnummer eller andre kjenslevare\n"
            "opplysningar på e-post. E-post til kommunen kan bli offentleg.\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "receipt_sensitive": (
            "Hei!\n\n"
            "Takk for førespurnaden. Han har fått referansen {ref}. Du får svar seinast {due}.\n\n"
            "Følg førespurnaden her:\n{status_url}\n\n"
            "Ikkje send kjenslevare opplysningar på e-post. Ring oss heller.\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "receipt_external": (
            "Hei!\n\n"
            "Takk for førespurnaden. Han har fått referansen {ref}.\n"
            "Dette er det {department} som svarer på, ikkje kommunen. Vi har sendt førespurnaden\n"
            "vidare dit, og dei svarer deg direkte.\n{website}\n"
            "Du kan sjå førespurnaden her:\n{status_url}\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "referred_external": (
            "Hei!\n\n"
            "Takk for førespurnaden. Han har fått referansen {ref}.\n"
            "Dette er det {department} som svarer på, ikkje kommunen.\n{website}\n"
            "Vi ser på førespurnaden din seinast {due}. Du kan følgje han her:\n{status_url}\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "emergency_subject": "Treng du hjelp no? Ring 110, 112 eller 113",
        "emergency": (
            "Er liv eller helse i fare no, må du ringje. Vi les ikkje e-post døgnet rundt.\n\n"
            "  110  Brann\n"
            "  112  Politi\n"
            "  113  Ambulanse\n"
            "  116 117  Legevakt\n"
            "  116 111  Alarmtelefonen for barn og unge\n"
            "  116 123  Mental Helse\n\n"
            "Vi har òg teke imot det du skreiv, med referansen {ref}:\n{status_url}\n\n"
            "{municipality}\n{phone}\n"
        ),
        "forward_subject": "Vidaresendt frå {municipality}: {subject}",
        "forward": (
            "Til {department}\n\n"
            "Vi har fått ein førespurnad som vi meiner høyrer til hos dykk, og sender han vidare etter\n"
            "forvaltningslova § 11. Innbyggjaren har fått melding om at de svarer direkte.\n"
            "Høyrer han ikkje til hos dykk, svar på denne e-posten.\n\n"
            "Vår referanse: {ref}\n"
            "Frå: {sender}\n"
            "Motteken: {received}\n\n"
            "{text}\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "forward_unchecked": (
            "[Innbyggjaren sende òg filer. Dei er ikkje undersøkte for virus enno, og er difor\n"
            "ikkje med. Svar på denne e-posten om de treng dei.]"
        ),
        "reply_end": "\n\nVenleg helsing\n{staff}{department}, {municipality}\n\nReferanse: {ref}\n{status_url}\n",
        "chat_emergency": (
            "Er liv eller helse i fare no, må du ringje: brann 110, politi 112, ambulanse 113.\n"
            "Legevakt 116 117. Alarmtelefonen for barn og unge 116 111. Mental Helse 116 123.\n"
            "Vi har sett det du skreiv, og varsla dei som sit her no."
        ),
        "chat_closed": (
            "Takk for meldinga. Det sit ingen i chatten no, så vi har registrert ho som førespurnad {ref}.\n"
            "Du får svar seinast {due}.\n"
            "Følg han her: {status_url}"
        ),
        "chat_unanswered": (
            "Ingen er ledige akkurat no, så vi har registrert det du skreiv som førespurnad {ref}.\n"
            "Du får svar seinast {due}. Er du her framleis når nokon blir ledige, svarer vi deg her.\n"
            "Følg han her: {status_url}"
        ),
        "chat_goes_to": "{who} tek over samtalen og svarar deg her.",
        "chat_casework": (
            "Dette treng meir enn eit svar her og no, så vi tek det vidare som førespurnad {ref}.\n"
            "Du får svar seinast {due}. Skriv gjerne her om det er meir vi bør vite.\n"
            "Følg han her: {status_url}"
        ),
        "chat_unread": (
            "Hei!\n\n"
            "Du skreiv til oss i chatten. Her er svaret, sidan du ikkje var der lenger:\n\n"
            "{text}"
        ),
        "chat_transcript_subject": "Samtalen du hadde med {municipality}",
        "chat_transcript": (
            "Hei!\n\n"
            "Her er samtalen, slik du bad om. Fødselsnummer er skjult.\n\n"
            "{text}\n\n"
            "Referanse: {ref}\n{status_url}\n\n"
            "Venleg helsing\n{municipality}\n{phone}\n"
        ),
        "chat_text": "Vi har svara deg i chatten. Les svaret her: {status_url}",
        "chat_you": "Du",
        "text_receipt": (
            "Hei! {municipality} har fått meldinga di, referanse {ref}. Du får svar seinast {due}."
        ),
        "text_external": (
            "Hei! Dette svarer {department} på, ikkje {municipality}. Vi har sendt meldinga vidare, og dei"
            " svarer deg direkte. Referanse {ref}."
        ),
        "text_referred": (
            "Hei! Dette svarer {department} på, ikkje {municipality}. Vi ser på meldinga di seinast {due}."
            " Referanse {ref}."
        ),
        "text_emergency": (
            "Er liv eller helse i fare, ring 113 (ambulanse), 112 (politi) eller 110 (brann). Legevakt:"
            " 116117. Vi les ikkje SMS døgnet rundt. Ref. {ref}"
        ),
        "text_end": "\n\nHelsing {department}, {municipality}",
        "staff_opening": (
            "{ref}: {subject}\n"
            "{department}. Svarfrist: {due}.\n\n"
            "{lines}\n\n"
            "Det du skriv her, går til innbyggjaren. /hjelp viser kva du elles kan gjere.\n"
            "{url}"
        ),
        "staff_line": "{clock} {who}: {text}",
        "staff_resident": "Innbyggjaren",
        "staff_files": "Vedlegg: {names}. Dei ligg på sida til førespurnaden: {url}",
        "staff_more": "… Resten står på sida til førespurnaden: {url}",
        "staff_help": (
            "Det du skriv her, går til innbyggjaren på den kanalen dei bruker.\n"
            "/notat TEKST skriv eit notat som blir i huset.\n"
            "/lukk avsluttar førespurnaden.\n"
            "/hjelp viser dette.\n"
            "Tek klienten skråstreken sjølv, verkar utropsteikn: !notat, !lukk, !hjelp.\n"
            "Skal svaret byrje med eit slikt teikn og eit ord, skriv teiknet to gonger."
        ),
        "staff_noted": "Notatet er skrive.",
        "staff_closed": "Førespurnaden er avslutta. Skriv innbyggjaren att, får du vite det her.",
        "staff_again": (
            "{text}\n\n{ref} er open att, og ingen har han. Svarer du her, tek du han.\n{url}"
        ),
        "staff_closed_before": "Førespurnaden var alt avslutta. Ingenting er endra.",
        "staff_closed_reopened": "Du har alt avslutta førespurnaden, og han er opna att sidan. Ingenting er endra no.",
        "staff_unknown": "Denne adressa finst ikkje.",
        "staff_held": "{holder} har denne førespurnaden. Du kan skrive eit notat: /notat TEKST",
        "staff_full": "Du har så mange chattar som ein kan ha, så svaret vart ikkje sendt. Gi frå deg eller avslutt ein først.",
        "staff_shut": "Førespurnaden er avslutta. Opne han på nytt på sida: {url}",
        "staff_no_command": "Kommandoen {command} finst ikkje, så ingenting vart sendt. /hjelp viser dei som finst.",
        "staff_no_text": "Skriv noko etter kommandoen.",
        "staff_not_sent": "Svaret kan ikkje sendast herfrå. Sjå kvifor på sida til førespurnaden: {url}",
        "no_subject": "Førespurnad",
        "at": "{date} kl. {time}",
        "date": "EEEE d. MMMM y",
    },
    "en": {
        "receipt_subject": "We have received your inquiry",
        "receipt": (
            "Hello!\n\n"
            "Thank you for your inquiry. Its reference is {ref}, and it is with {department}.\n"
            "You will have an answer by {due}.\n\n"
            "Follow it here:\n{status_url}\n\n"
            "If you have more to tell us, reply to this e-mail. Please do not send national identity numbers or other\n"
            "sensitive information by e-mail. E-mail to the municipality may become public.\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "receipt_sensitive": (
            "Hello!\n\n"
            "Thank you for your inquiry. Its reference is {ref}. You will have an answer by {due}.\n\n"
            "Follow it here:\n{status_url}\n\n"
            "Please do not send sensitive information by e-mail. Call us instead.\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "receipt_external": (
            "Hello!\n\n"
            "Thank you for your inquiry. Its reference is {ref}.\n"
            "This is answered by {department}, not by the municipality. We have forwarded your\n"
            "inquiry to them, and they will answer you directly.\n{website}\n"
            "You can see the inquiry here:\n{status_url}\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "referred_external": (
            "Hello!\n\n"
            "Thank you for your inquiry. Its reference is {ref}.\n"
            "This is answered by {department}, not by the municipality.\n{website}\n"
            "We will look at your inquiry by {due}. You can follow it here:\n{status_url}\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "emergency_subject": "Do you need help now? Call 110, 112 or 113",
        "emergency": (
            "If life or health is in danger now, you must call. We do not read e-mail around the clock.\n\n"
            "  110  Fire\n"
            "  112  Police\n"
            "  113  Ambulance\n"
            "  116 117  Out-of-hours doctor\n"
            "  116 111  Alarm telephone for children and young people\n"
            "  116 123  Mental health helpline\n\n"
            "We have also received what you wrote, with the reference {ref}:\n{status_url}\n\n"
            "{municipality}\n{phone}\n"
        ),
        "forward_subject": "Forwarded from {municipality}: {subject}",
        "forward": (
            "To {department}\n\n"
            "We have received an inquiry that we believe is yours, and forward it under the Public\n"
            "Administration Act, section 11. The resident has been told that you answer directly.\n"
            "If it is not yours, reply to this e-mail.\n\n"
            "Our reference: {ref}\n"
            "From: {sender}\n"
            "Received: {received}\n\n"
            "{text}\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "forward_unchecked": (
            "[The resident sent files too. They have not been checked for viruses yet, so they are\n"
            "not enclosed. Reply to this e-mail if you need them.]"
        ),
        "reply_end": "\n\nKind regards\n{staff}{department}, {municipality}\n\nReference: {ref}\n{status_url}\n",
        "chat_emergency": (
            "If life or health is in danger now, you must call: fire 110, police 112, ambulance 113.\n"
            "Out-of-hours doctor 116 117. Alarm telephone for children and young people 116 111. Mental health helpline 116 123.\n"
            "We have seen what you wrote, and alerted those who are here now."
        ),
        "chat_closed": (
            "Thank you for your message. Nobody is in the chat now, so we have registered it as inquiry {ref}.\n"
            "You will have an answer by {due}.\n"
            "Follow it here: {status_url}"
        ),
        "chat_unanswered": (
            "Nobody is free right now, so we have registered what you wrote as inquiry {ref}.\n"
            "You will have an answer by {due}. If you are still here when somebody is free, we will answer you here.\n"
            "Follow it here: {status_url}"
        ),
        "chat_goes_to": "{who} takes over and answers you here.",
        "chat_casework": (
            "This takes more than an answer here and now, so we go on with it as inquiry {ref}.\n"
            "You will have an answer by {due}. Write here if there is more that we should know.\n"
            "Follow it here: {status_url}"
        ),
        "chat_unread": (
            "Hello!\n\n"
            "You wrote to us in the chat. Here is the answer, as you were no longer there:\n\n"
            "{text}"
        ),
        "chat_transcript_subject": "Your conversation with {municipality}",
        "chat_transcript": (
            "Hello!\n\n"
            "Here is the conversation, as you asked. National identity numbers are hidden.\n\n"
            "{text}\n\n"
            "Reference: {ref}\n{status_url}\n\n"
            "Kind regards\n{municipality}\n{phone}\n"
        ),
        "chat_text": "We have answered you in the chat. Read the answer here: {status_url}",
        "chat_you": "You",
        "text_receipt": (
            "Hello! {municipality} has your message, reference {ref}. You will have an answer by {due}."
        ),
        "text_external": (
            "Hello! This is answered by {department}, not by {municipality}. We have passed your message on,"
            " and they will answer you directly. Reference {ref}."
        ),
        "text_referred": (
            "Hello! This is answered by {department}, not by {municipality}. We will look at your message by"
            " {due}. Reference {ref}."
        ),
        "text_emergency": (
            "If life or health is in danger, call 113 (ambulance), 112 (police) or 110 (fire). Doctor on"
            " duty: 116117. Texts are not read at night. Ref. {ref}"
        ),
        "text_end": "\n\nRegards, {department}, {municipality}",
        "staff_opening": (
            "{ref}: {subject}\n"
            "{department}. Answer by {due}.\n\n"
            "{lines}\n\n"
            "What you write here goes to the resident. /help shows what else you can do.\n"
            "{url}"
        ),
        "staff_line": "{clock} {who}: {text}",
        "staff_resident": "The resident",
        "staff_files": "Attachments: {names}. They are on the page of the inquiry: {url}",
        "staff_more": "… The rest is on the page of the inquiry: {url}",
        "staff_help": (
            "What you write here goes to the resident by the channel that they use.\n"
            "/note TEXT writes a note that stays in the house.\n"
            "/close closes the inquiry.\n"
            "/help shows this.\n"
            "If your client takes the slash itself, use an exclamation mark: !note, !close, !help.\n"
            "If your answer begins with such a mark and a word, write the mark twice."
        ),
        "staff_noted": "The note is written.",
        "staff_closed": "The inquiry is closed. If the resident writes again, you hear of it here.",
        "staff_again": (
            "{text}\n\n"
            "{ref} is open again, and nobody holds it. If you answer here, you take it.\n"
            "{url}"
        ),
        "staff_closed_before": "The inquiry was closed already. Nothing has changed.",
        "staff_closed_reopened": "You have closed the inquiry already, and it has been opened again since. Nothing has changed now.",
        "staff_unknown": "There is no such address.",
        "staff_held": "{holder} holds this inquiry. You can write a note: /note TEXT",
        "staff_full": "You have as many chats as one can have, so the answer was not sent. Hand one over or end one first.",
        "staff_shut": "The inquiry is closed. Reopen it on its page: {url}",
        "staff_no_command": "There is no command {command}, so nothing was sent. /help shows those there are.",
        "staff_no_text": "Write something after the command.",
        "staff_not_sent": "The answer cannot be sent from here. See why on the page of the inquiry: {url}",
        "no_subject": "Inquiry",
        "at": "{date} at {time}",
        "date": "EEEE d MMMM y",
    },
}


def letter_language(language: str) -> str:
    """The language we write in: the resident's where we have it; bokmål where it is understood
    and where we know nothing; else English."""
    if language in TEXTS:
        return language
    return "nb" if language in _READ_BOKMAL else "en"


def letter_languages(language: str) -> tuple[str, ...]:
    """The languages of a letter that has room for two. Who writes in one that we have no letters in
    gets English, and bokmål below it for those who help them here."""
    first = letter_language(language)
    return (first,) if first == "nb" or language in TEXTS else (first, "nb")


def write(language: str, name: str, **values: object) -> str:
    """One text with its blanks filled in."""
    return TEXTS[letter_language(language)][name].format(**values)


@lru_cache(1024)
def moment_in_words(instant: datetime, zone: ZoneInfo, language: str) -> str:
    """`onsdag 25. november 2026 kl. 15:45`, in local time."""
    language = letter_language(language)
    local = instant.astimezone(zone)
    texts = TEXTS[language]
    return texts["at"].format(
        date=format_date(local, texts["date"], locale=_LOCALES[language]),
        time=f"{local:%H:%M}",
    )


def phone_in_words(number: str) -> str:
    """A number as people in Norway write it: `63 86 90 00`; unchanged when it cannot be read."""
    try:
        parsed = phonenumbers.parse(number, "NO")
    except phonenumbers.NumberParseException:
        return number
    national = parsed.country_code == phonenumbers.country_code_for_region("NO")
    style = phonenumbers.PhoneNumberFormat
    return phonenumbers.format_number(parsed, style.NATIONAL if national else style.INTERNATIONAL)


def tagged_subject(subject: str, ref: str, language: str) -> str:
    """`SV: <subject> [S-2026-000123]`, at most 200 characters, without piling up prefixes and
    tags."""
    prefix = {"en": "Re: "}.get(letter_language(language), "SV: ")
    bare = subject.replace(f"[{ref}]", "").strip() or TEXTS[letter_language(language)]["no_subject"]
    while bare[:3].lower() in {"sv:", "re:"}:
        bare = bare[3:].strip()
    room = 200 - len(prefix) - len(ref) - 3
    return f"{prefix}{bare[:room].strip()} [{ref}]"
