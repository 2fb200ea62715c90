"""Files that nothing refers to are swept, and nothing else is."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from router.blobs import blob_path, drop_blob, put_blob, read_blob
from router.errors import InvalidError
from router.files import Source, keep_files
from router.leftovers import DAY, sweep
from router.models import Arrival
from tests.router.store_house import house
from tests.service import mail


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


def make_old(blobs, seconds: float = 2 * DAY) -> None:
    """As if everything had been put there so long ago."""
    then = time.time() - seconds
    for path in blobs.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_files_of_a_refused_reply_go_after_a_day_and_those_of_a_sent_one_stay(home):
    blobs, actor, ref = home.workbench.blobs, home.person(), home.ask()
    sent = keep_files(blobs, [Source("a.txt", "", io.BytesIO(b"til deg"))])
    home.reply(actor, ref, "Se vedlegg.", files=sent)
    refused = keep_files(blobs, [Source("b.txt", "", io.BytesIO(b"til ingen"))])
    with pytest.raises(InvalidError):
        home.reply(actor, ref, " ", files=refused)
    number, original = home.journal(mail("Stort")), put_blob(blobs, mail("Stort"))
    home.write(lambda s: s.get_one(Arrival, number).sqlmodel_update({"blob": original}))

    assert sweep(home.db, blobs) == 0, "whoever put them there may be about to write the row"
    make_old(blobs)
    (blobs / ".left-by-a-kill").write_bytes(b"half")
    os.utime(blobs / ".left-by-a-kill", (0, 0))
    assert sweep(home.db, blobs) == 1
    assert not blob_path(blobs, refused[0].sha256).exists()
    assert not (blobs / ".left-by-a-kill").exists()
    assert read_blob(blobs, sent[0].sha256) == b"til deg"
    assert read_blob(blobs, original)


@pytest.mark.thorough
def test_what_is_put_again_is_not_swept_in_the_same_moment(home):
    """Somebody sends a file again that has lain here unreferenced: either it is swept first and
    written anew, or it stays."""
    blobs = home.workbench.blobs
    for number in range(300):
        content = f"fil {number}".encode()
        sha256 = put_blob(blobs, content)
        old = time.time() - 2 * DAY
        os.utime(blob_path(blobs, sha256), (old, old))
        gate = threading.Barrier(2)

        def put(content=content, gate=gate):
            gate.wait()
            put_blob(blobs, content)

        putting = threading.Thread(target=put)
        putting.start()
        gate.wait()
        drop_blob(blobs, sha256, DAY)
        putting.join()
        assert read_blob(blobs, sha256) == content
    assert [path for path in blobs.rglob(".*") if path.is_file()] == []
