"""No secret in what any public type of the credentials' room shows of itself, nor in its errors."""

from __future__ import annotations

import base64
import contextlib
import copy
import faulthandler
import logging
import pickle
import pprint
import reprlib
import string
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine._wire.endpoint import Origin, Target
from engine.credentials import RoleSpec
from engine.credentials.documents import read_keys
from engine.credentials.providers.static import EnvironmentProvider, StaticProvider
from engine.errors import EngineError
from engine.options import CustomerKey, ObjectOptions
from engine.planes.exchange import Call
from engine.redact import redact
from engine.types import Credentials, S3Url
from tests.house.secret_holders import HOLDERS, ROLE, Secrets, public_names

PIECE = 8  # characters in a row: fewer may be there by chance
BASE64 = string.ascii_letters + string.digits + "+/="


def secrets_of(seed: int) -> Secrets:
    """Drawn evenly: hypothesis itself likes the words of the code that it tests."""
    random = Random(seed)

    def text(alphabet: str, least: int, most: int) -> str:
        return "".join(random.choices(alphabet, k=random.randint(least, most)))

    return Secrets(
        key=text(BASE64, 40, 40),
        token=text(BASE64, 100, 400),
        external_id=text(string.ascii_letters + string.digits + "+=,.@:/-", 12, 100),
        code="".join(random.sample("456789", 6)),  # digits that are in no account id here
        web_token=text(string.ascii_letters + string.digits + "-_.", 60, 300),
        container_token=text(string.ascii_letters + string.digits, 40, 60),
    )


SECRETS = st.integers(0, 2**32).map(secrets_of)


def pieces(secret: str) -> set[str]:
    """Every run of ``PIECE`` characters; a short secret whole."""
    size = min(PIECE, len(secret))
    return {secret[at : at + size] for at in range(len(secret) - size + 1)}


def check(text: str, secrets: Secrets) -> None:
    for secret in secrets.texts():
        found = [piece for piece in pieces(secret) if piece in text]
        assert not found, f"{found[0]!r} is in {text[:2_000]}"


def shown(value: object) -> Iterator[str]:
    """Everything that a program, a log or a debugger prints of an object without asking it."""
    yield repr(value)
    yield str(value)
    yield f"{value}"
    yield ascii(value)
    yield pprint.pformat(value)
    yield pprint.pformat([{"held": value}])
    yield reprlib.repr(value)
    yield logging.makeLogRecord({"msg": "%s %r", "args": (value, value)}).getMessage()
    try:
        held = value  # a local name, as a crash reporter sees it
        raise ValueError(held)
    except ValueError as error:
        yield "".join(traceback.format_exception(error))
        yield "".join(traceback.TracebackException.from_exception(error).format())
        locals_too = traceback.TracebackException.from_exception(error, capture_locals=True)
        yield "".join(locals_too.format())


def test_every_public_type_is_looked_at() -> None:
    assert public_names() - set(HOLDERS) == set(), "say in HOLDERS how it is made"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOLDERS))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secrets=SECRETS)
def test_no_public_type_shows_a_secret(name: str, secrets: Secrets) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for value in HOLDERS[name](secrets, Path(folder)):
            for text in shown(value):
                check(text, secrets)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOLDERS))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secrets=SECRETS)
def test_no_key_and_no_token_is_pickled(name: str, secrets: Secrets) -> None:
    """Who holds keys refuses, and says what to do; settings such as a RoleSpec are."""
    with tempfile.TemporaryDirectory() as folder:
        for value in [*HOLDERS[name](secrets, Path(folder)), secrets.credentials]:
            try:
                pickled = pickle.dumps(value)
            except (TypeError, AttributeError, pickle.PicklingError, EngineError) as error:
                check(str(error), secrets)
                continue
            for secret in (secrets.key, secrets.token, secrets.container_token):
                assert not [piece for piece in pieces(secret) if piece.encode() in pickled]


def test_who_holds_keys_says_why_it_is_not_pickled() -> None:
    keys = Credentials("AKIA" + "Q" * 16, "secret")
    for value in (keys, StaticProvider(keys), [keys], {"keys": keys}):
        with pytest.raises(TypeError, match="is not pickled.*credentials serve"):
            pickle.dumps(value)
    assert copy.copy(keys) is keys
    assert copy.deepcopy([keys]) == [keys]


@given(secrets=SECRETS)
def test_credentials_show_no_secret(secrets: Secrets) -> None:
    for text in shown(secrets.credentials):
        check(text, secrets)


@given(secrets=SECRETS, bad=st.sampled_from([" ", "ä", "\n", "\x00", "'"]))
def test_what_is_refused_is_refused_without_its_value(secrets: Secrets, bad: str) -> None:
    """Errors of every constructor and parser that is handed a secret."""
    attempts: list[Callable[[], object]] = [
        lambda: RoleSpec(ROLE, external_id=secrets.external_id + bad),
        lambda: RoleSpec(
            ROLE, serial_number="arn:aws:iam::1:mfa/me", token_code=secrets.code + bad
        ),
        lambda: RoleSpec(ROLE, policy=secrets.key + bad),
        lambda: StaticProvider(Credentials("ASIA" + "Q" * 16, secrets.key)),
        lambda: EnvironmentProvider({"AWS_SECRET_ACCESS_KEY": secrets.key}),
        lambda: EnvironmentProvider(
            {"AWS_ACCESS_KEY_ID": "ASIA" + "Q" * 16, "AWS_SECRET_ACCESS_KEY": secrets.key}
        ),
        lambda: read_keys(f'{{"SecretAccessKey": "{secrets.key}", '.encode(), "the source"),
        lambda: read_keys(f'{{"SecretAccessKey": ["{secrets.key}"]}}'.encode(), "the source"),
        lambda: read_keys(b'{"Token": "%s"}' % secrets.token.encode(), "it").credentials("it"),
    ]
    for attempt in attempts:
        with pytest.raises(EngineError) as caught:
            attempt()
        for text in (*shown(caught.value), str(caught.value.facts)):
            check(text, secrets)
        check("".join(traceback.format_exception(caught.value)), secrets)


@settings(max_examples=5)
@given(secrets=SECRETS)
def test_a_dump_of_a_crash_shows_places_only(secrets: Secrets) -> None:
    with tempfile.TemporaryFile("w+") as file:
        held = secrets.credentials
        # All threads, of which it shows a hundred, and then this one, which may be behind them.
        faulthandler.dump_traceback(file, all_threads=True)
        faulthandler.dump_traceback(file, all_threads=False)
        file.seek(0)
        text = file.read()
    assert "test_a_dump_of_a_crash" in text
    assert held.secret_access_key not in text
    check(text, secrets)


@settings(max_examples=10)
@given(key=st.integers(0, 2**32).map(lambda seed: Random(seed).randbytes(32)))
def test_a_customers_key_is_shown_and_pickled_nowhere(key: bytes) -> None:
    """SSE-C: neither by the options that hold it nor by a request that carries it."""
    options = ObjectOptions(customer_key=CustomerKey(key), metadata={"a": "b"})
    call = Call(
        "put object",
        S3Url("bucket", "key"),
        "PUT",
        Target(Origin("https", "h", 1), "/", "us-east-1"),
    )
    call.signed = options.for_put()
    forms = [base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1]]
    for value in (options, options.customer_key, options.over(ObjectOptions()), [options], call):
        for text in shown(value):
            assert not [form for form in forms if form in text]
        with contextlib.suppress(TypeError):
            assert key not in pickle.dumps(value)
    header = f"x-amz-server-side-encryption-customer-key: {forms[0]}"
    assert forms[0] not in redact(header) and forms[0] not in redact(repr(call.signed))
