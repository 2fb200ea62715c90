"""The floor of the intake figures: django-helpdesk taking the same mails, as it comes.

It is installed into a throw-away folder, by this benchmark only. It has no door for SMTP; it
fetches from a mailbox, here a directory, so that nothing but its own work is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import load

SETTINGS = """\
SECRET_KEY = "x"
ROOT_URLCONF = "bench_urls"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.sites", "django.contrib.messages", "django.contrib.humanize",
    "django.contrib.admin", "rest_framework", "helpdesk",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "helpdesk.db"}}
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
SITE_ID = 1
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
HELPDESK_TEAMS_MODE_ENABLED = False
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
MEDIA_ROOT = "media"
"""

URLS = """\
from django.urls import include, path
urlpatterns = [path("", include("helpdesk.urls", namespace="helpdesk"))]
"""

RUN = """\
import json, os, time
os.environ["DJANGO_SETTINGS_MODULE"] = "bench_settings"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from helpdesk.email import process_email
from helpdesk.models import Queue, Ticket
Queue.objects.create(
    title="Postmottak", slug="postmottak", allow_email_submission=True,
    email_address="postmottak@sorum.kommune.no", email_box_type="local",
    email_box_local_dir=os.path.abspath("box"),
)
began = time.perf_counter()
process_email(quiet=True)
print(json.dumps([Ticket.objects.count(), time.perf_counter() - began]))
"""


def mails_per_second(number: int) -> float:
    """Mails a second, from the mailbox to tickets. Raises `RuntimeError` when it cannot be
    installed or does not take them all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _call(folder, sys.executable, "-m", "venv", "venv")
        python = str(folder / "venv" / "bin" / "python")
        _call(folder, python, "-m", "pip", "install", "-q", "django-helpdesk")
        for file, text in (
            ("bench_settings.py", SETTINGS),
            ("bench_urls.py", URLS),
            ("run.py", RUN),
        ):
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "box").mkdir()
        for index, (_, _, raw) in enumerate(load.mails(load.Batch(number))):
            (folder / "box" / f"{index:06d}.eml").write_bytes(raw)
        told = _call(folder, python, "run.py").splitlines()
        taken, seconds = json.loads(told[-1])
        if taken != number:
            raise RuntimeError(f"django-helpdesk made {taken} tickets of {number} mails")
        return float(taken / seconds)


def _call(folder: Path, *arguments: str) -> str:
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        arguments, cwd=folder, env=plain, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[1:])}: {done.stderr[-2000:]}")
    return done.stdout
