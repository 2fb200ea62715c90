"""A Postfix of our own from Debian's binaries: its configuration, queue and ports belong to the
test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from grp import getgrnam
from pathlib import Path
from typing import TYPE_CHECKING

from tests.service import NEVER_ALONE, TOWN_HALL, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

MASTER = Path("/usr/lib/postfix/sbin/master")
OUT_OF_ORDER = "" if MASTER.exists() and os.geteuid() == 0 else "needs Debian's postfix, and root"

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.eksempel.no
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
relay_domains = {domain}
relay_transport = {next_hop}
message_size_limit = 0
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
transport_retry_time = 1s
lmtp_connect_timeout = 2s
lmtp_destination_concurrency_limit = 20
lmtp_destination_concurrency_failed_cohort_limit = 0
"""

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

QUEUE = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")


@dataclass
class Postfix:
    """One that runs."""

    folder: Path
    port: int

    @property
    def waiting(self) -> int:
        """How many mails it still has."""
        return sum(
            len(files)
            for name in ("maildrop", "incoming", "active", "deferred")
            for _, _, files in os.walk(self.folder / "queue" / name)
        )

    @property
    def log(self) -> str:
        """What it has logged."""
        file = self.folder / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


@contextmanager
def postfix(next_hop: str) -> Iterator[Postfix]:
    """Takes mail for the town hall by SMTP and hands it on, trying again every second.

    `next_hop` is a transport and where it leads, like `lmtp:inet:127.0.0.1:2424`.
    """
    # Not under pytest's own directory: Postfix's user must be able to walk there.
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))
    folder.chmod(0o755)
    port = free_port()
    _lay_out(folder, port, next_hop)
    # -d: stay a child of the test.
    process = subprocess.Popen(
        [*NEVER_ALONE, str(MASTER), "-c", str(folder / "config"), "-d"],
        env={**os.environ, "MAIL_CONFIG": str(folder / "config")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    opened = Postfix(folder, port)
    try:
        wait_until(lambda: "daemon started" in opened.log or process.poll() is not None, "Postfix")
        if process.poll() is not None:
            _, told = process.communicate()
            raise AssertionError(f"Postfix did not start: {told}{opened.log}")
        yield opened
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        print(opened.log[-5000:])  # shown by pytest when the test failed
        shutil.rmtree(folder)


def _lay_out(folder: Path, port: int, next_hop: str) -> None:
    owner, drop = pwd.getpwnam("postfix"), getgrnam("postdrop")
    config, queue, data = (folder / name for name in ("config", "queue", "data"))
    for made in (config, queue, data):
        made.mkdir(mode=0o755)
    os.chown(data, owner.pw_uid, owner.pw_gid)
    for name, mode in (*((name, 0o700) for name in QUEUE), ("private", 0o700), ("trace", 0o700)):
        (queue / name).mkdir(mode=mode)
        os.chown(queue / name, owner.pw_uid, 0)
    for name, mode in (("public", 0o2710), ("maildrop", 0o1730)):
        (queue / name).mkdir()
        os.chown(queue / name, owner.pw_uid, drop.gr_gid)
        (queue / name).chmod(mode)
    (queue / "pid").mkdir(mode=0o755)
    domain = TOWN_HALL.partition("@")[2]
    main = MAIN.format(folder=folder, domain=domain, next_hop=next_hop)
    (config / "main.cf").write_text(main, encoding="ascii")
    (config / "master.cf").write_text(MASTER_CF.format(port=port), encoding="ascii")
