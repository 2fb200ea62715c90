"""Names nobody can guess: what we signed we know again, and nothing else."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from router.tokens import MAC_BITS, Signer, hash_secret, load_signer, new_secret

PURPOSES = st.sampled_from(sorted(MAC_BITS))
NUMBERS = st.integers(min_value=0, max_value=2**63 - 1)
SIGNER = Signer((b"en hemmelighet",))


@given(PURPOSES, NUMBERS)
def test_what_was_signed_is_known_again_also_in_other_letters(purpose, number):
    token = SIGNER.sign(purpose, number)
    assert SIGNER.verify(purpose, token) == number
    assert SIGNER.verify(purpose, f" {token.upper()} ") == number


@given(PURPOSES, PURPOSES, NUMBERS)
def test_a_token_is_good_for_its_purpose_alone(purpose, other, number):
    token = SIGNER.sign(purpose, number)
    assert (SIGNER.verify(other, token) == number) == (purpose == other)


@given(PURPOSES, NUMBERS, st.data())
def test_no_token_survives_a_change(purpose, number, data):
    token = SIGNER.sign(purpose, number)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567-"))
    changed = token[:at] + letter + token[at + 1 :]
    assert changed == token or SIGNER.verify(purpose, changed) is None
    assert SIGNER.verify(purpose, token[:-1]) is None
    assert SIGNER.verify(purpose, token + "a") is None


@given(PURPOSES, st.text(max_size=80))
def test_anything_else_is_not_ours_and_raises_nothing(purpose, text):
    assert SIGNER.verify(purpose, text) is None


@given(NUMBERS)
def test_a_reply_address_is_valid_and_survives_mail_systems(number):
    local = f"svar+{SIGNER.sign('reply', number)}"
    assert len(local) <= 64  # RFC 5321 §4.5.3.1.1
    assert local == local.lower()
    assert local.isascii()
    assert set(local) <= set("abcdefghijklmnopqrstuvwxyz0123456789+-")


def test_neighbours_have_nothing_in_common():
    macs = {SIGNER.sign("status", number).partition("-")[2] for number in range(200)}
    assert len(macs) == 200


def test_while_keys_are_changed_both_hold_and_the_new_one_signs(tmp_path):
    old = load_signer(tmp_path)
    file = tmp_path / "signing.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = old.sign("reply", 7)
    file.write_text("et nytt og langt passord\n" + file.read_text())
    new = load_signer(tmp_path)
    assert new.verify("reply", token) == 7
    assert new.sign("reply", 7) != token
    assert old.verify("reply", new.sign("reply", 7)) is None
    assert load_signer(tmp_path, "fra miljøet").sign("reply", 7) != new.sign("reply", 7)
    assert load_signer(tmp_path, "fra miljøet").verify("reply", token) == 7


def test_a_key_that_was_left_half_written_is_not_used(tmp_path):
    """A disk that was full at the first start."""
    (tmp_path / "signing.new").write_text("ab")
    (tmp_path / "signing.key").write_text("")
    signer = load_signer(tmp_path)
    assert len(signer.keys[0]) == 64
    assert load_signer(tmp_path) == signer
    assert [path.name for path in tmp_path.iterdir()] == ["signing.key"]


def test_two_installations_do_not_accept_each_others_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = load_signer(tmp_path / "a"), load_signer(tmp_path / "b")
    assert b.verify("status", a.sign("status", 1)) is None


def test_secrets_are_long_and_kept_only_as_a_hash():
    secret = new_secret()
    assert len(secret) >= 43  # 256 bits
    assert secret not in hash_secret(secret)
    assert hash_secret(secret) == hash_secret(secret) != hash_secret(new_secret())
