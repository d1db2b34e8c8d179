"""Settings from the environment: every wrong variable is named, with the fix, and no secret is shown."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from orchestrator.errors import SettingsInvalid
from orchestrator.settings import Settings, variable
from orchestrator.settings.urls import mask_url


def read(**values: str) -> Settings:
    return Settings.from_env({variable(name): value for name, value in values.items()})


def refusal(**values: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        read(**values)
    return str(caught.value)


def test_nothing_is_needed_and_the_defaults_fit_together() -> None:
    settings = Settings.from_env({"PATH": "/bin"})
    assert settings == Settings()
    assert settings.database_url is None
    assert settings.heartbeat * 3 <= settings.lease


def test_every_kind_of_value_is_read() -> None:
    settings = read(
        lease="1m",
        heartbeat="PT20S",
        worker_ttl="60",
        sweep_interval="500ms",
        redispatch_after="2.5",
        flows="shop.flows, ./audit.py ,",
        migrate="no",
        ack_emulation="TRUE",
        prefetch_multiplier="8",
        log_level="debug",
        key_prefix="team-a:",
        broker_transport_options='{"master_name": "main"}',
        broker_use_ssl="true",
    )
    assert settings.lease == timedelta(minutes=1)
    assert settings.heartbeat == timedelta(seconds=20)
    assert settings.sweep_interval == timedelta(milliseconds=500)
    assert settings.redispatch_after == timedelta(seconds=2.5)
    assert settings.flows == ("shop.flows", "./audit.py")
    assert (settings.migrate, settings.ack_emulation, settings.prefetch_multiplier) == (False, True, 8)
    assert (settings.log_level, settings.key_prefix) == ("DEBUG", "team-a:")
    assert (settings.broker_transport_options, settings.broker_use_ssl) == ({"master_name": "main"}, True)


def test_an_empty_variable_is_not_set() -> None:
    assert read(lease="", database_url="  ", flows="") == Settings()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@db:5432/flows", "postgresql+psycopg://u:p@db:5432/flows"),
        ("postgresql://u:p@db/flows?sslmode=require", "postgresql+psycopg://u:p@db/flows?sslmode=require"),
        ("postgresql+psycopg://u@db/flows", "postgresql+psycopg://u@db/flows"),
        ("postgresql:///flows?host=/run/postgresql", "postgresql+psycopg:///flows?host=/run/postgresql"),
    ],
)
def test_a_database_url_is_brought_into_one_form(given: str, used: str) -> None:
    assert read(database_url=given).require_database_url() == used
    assert Settings(database_url=SecretStr(given)).require_database_url() == used


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://:p@cache:6379/0", "redis://:p@cache:6379/0"),
        ("valkey://cache", "redis://cache"),
        ("valkeys://cache", "rediss://cache"),
        ("rediss://cache:6380/1", "rediss://cache:6380/1"),
    ],
)
def test_a_broker_url_is_brought_into_one_form(given: str, used: str) -> None:
    assert read(broker_url=given).require_broker_url() == used


def test_sentinels_need_the_name_of_their_master() -> None:
    urls = "sentinel://a:26379;sentinel://b:26379"
    assert 'ORCHESTRATOR_BROKER_TRANSPORT_OPTIONS=\'{"master_name": "main"}\'' in refusal(broker_url=urls)
    assert read(broker_url=urls, broker_transport_options='{"master_name": "m"}').require_broker_url() == urls


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sentinel://:p@a:1/2; sentinel://b:1;", "sentinel://:p@a:1/2;sentinel://:p@b:1/2"),
        ("sentinel://:p@a/2;sentinel://u:q@b/3", "sentinel://:p@a/2;sentinel://u:q@b/3"),
        ("sentinel://a;sentinel://:p@b", "sentinel://a;sentinel://:p@b"),
        ("redis://:p@a/2;redis://b", "redis://:p@a/2;redis://b"),
    ],
)
def test_the_first_sentinel_url_speaks_for_the_others(given: str, used: str) -> None:
    options = '{"master_name": "m"}'
    assert read(broker_url=given, broker_transport_options=options).require_broker_url() == used


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("lease", "soon", "ORCHESTRATOR_LEASE='soon' cannot be used: it is not a length of time. Fix: write 500ms"),
        ("sweep_interval", "0", "ORCHESTRATOR_SWEEP_INTERVAL='0' cannot be used: it must be more than zero"),
        ("lease", "-3s", "ORCHESTRATOR_LEASE='-3s'"),
        ("lease", "nan", "ORCHESTRATOR_LEASE='nan'"),
        ("crash_limit", "many", "ORCHESTRATOR_CRASH_LIMIT='many' cannot be used: it is not a whole number"),
        ("crash_limit", "-1", "ORCHESTRATOR_CRASH_LIMIT='-1' cannot be used: it should be greater than or equal to 0"),
        ("prefetch_multiplier", "0", "ORCHESTRATOR_PREFETCH_MULTIPLIER='0'"),
        ("migrate", "maybe", "ORCHESTRATOR_MIGRATE='maybe' cannot be used: it is neither true nor false"),
        ("log_level", "loud", "ORCHESTRATOR_LOG_LEVEL='loud'"),
        ("key_prefix", "a b", "ORCHESTRATOR_KEY_PREFIX='a b'"),
        ("database_url", "flows.db", "ORCHESTRATOR_DATABASE_URL='***' cannot be used: it is not a URL. Fix: write"),
        ("database_url", "sqlite:///x.db", "`sqlite` is not supported. Fix: write postgresql://"),
        ("database_url", "postgresql://u:p@db", "it names no database. Fix: add /database"),
        ("database_url", "postgresql://u:p@db:x/y", "its port is not a number"),
        ("broker_url", "amqp://guest@mq", "`amqp` is not supported. Fix: use one of redis,"),
        ("broker_transport_options", "{", "ORCHESTRATOR_BROKER_TRANSPORT_OPTIONS=*** cannot be used: it is not JSON"),
        ("broker_transport_options", "[1]", "ORCHESTRATOR_BROKER_TRANSPORT_OPTIONS=***"),
    ],
)
def test_a_wrong_value_is_named_with_its_fix(name: str, value: str, told: str) -> None:
    message = refusal(**{name: value})
    assert told in message
    assert "Fix: " in message
    assert message.endswith("[settings_invalid]")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("ORCHESTRATOR_LEESE", "ORCHESTRATOR_LEASE"),
        ("ORCHESTRATOR_DATABASEURL", "ORCHESTRATOR_DATABASE_URL"),
        ("ORCHESTRATOR_lease", "ORCHESTRATOR_LEASE"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(name: str, guess: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"Unknown setting {name}. Fix: did you mean {guess}?"):
        Settings.from_env({name: "30s"})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({"ORCHESTRATOR_X1Q": "1", "ORCHESTRATOR_LEASE": "soon", "ORCHESTRATOR_MIGRATE": "maybe"})
    message = str(caught.value)
    assert "ORCHESTRATOR_X1Q" in message
    assert "ORCHESTRATOR_LEASE" in message
    assert "ORCHESTRATOR_MIGRATE" in message


def test_a_heartbeat_that_would_lose_leases_is_refused() -> None:
    message = refusal(lease="30s", heartbeat="11s")
    assert "ORCHESTRATOR_HEARTBEAT is 11s, more than a third of ORCHESTRATOR_LEASE (30s)" in message
    assert "Fix: raise ORCHESTRATOR_LEASE to 33s or more" in message
    assert read(lease="30s", heartbeat="10s").heartbeat == timedelta(seconds=10)


def test_a_worker_that_could_not_be_seen_alive_is_refused() -> None:
    assert "ORCHESTRATOR_WORKER_TTL is 15s" in refusal(worker_ttl="15s")


def test_what_is_required_says_how_to_give_it() -> None:
    with pytest.raises(SettingsInvalid, match=r"ORCHESTRATOR_DATABASE_URL is not set\. Fix: set it"):
        Settings().require_database_url()
    with pytest.raises(SettingsInvalid, match="orchestrator dev"):
        Settings().require_broker_url()


def test_no_password_is_printed() -> None:
    settings = read(
        database_url="postgresql://u:hunter2@db/x",
        broker_url="redis://:hunter2@cache",
        broker_transport_options='{"sentinel_kwargs": {"password": "hunter2"}}',
    )
    assert "hunter2" not in repr(settings) + str(settings)
    assert "hunter2" not in refusal(database_url="mysql://u:hunter2@db/x", broker_url="http://:hunter2@cache")
    assert "hunter2" not in refusal(database_url="postgresql://u:hun/ter2@db/x")
    assert "hunter2" not in refusal(broker_transport_options='{"password": "hunter2"')
    assert "hunter2" not in refusal(smtp_password="hunter2")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:secret@db/x", "postgresql://u:***@db/x"),
        ("postgresql://u:s@cr/et@db/x", "postgresql://u:***@db/x"),
        ("redis://db?password=secret&x=1", "redis://db?password=***&x=1"),
        ("sentinel://:a@x;sentinel://:b@y", "sentinel://:***@x;sentinel://:***@y"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("just a password", "***"),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_settings_do_not_change_and_take_no_unknown_field() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.lease = timedelta(seconds=1)  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings.model_validate({"leese": "1s"})


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://flows:s3cret@db/flows\n")
    settings = read(database_url_file=str(secret), broker_url_file=" ")
    assert settings.require_database_url().endswith("flows:s3cret@db/flows")
    assert settings.broker_url is None
    assert "s3cret" not in refusal(database_url_file=str(secret), lease="soon")


def test_a_file_with_a_value_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, binary, long = tmp_path / "missing", tmp_path / "binary", tmp_path / "long"
    binary.write_bytes(b"\xff\xfe")
    long.write_text("x" * 70_000)
    assert "ORCHESTRATOR_SIGNING_KEY_FILE" in refusal(signing_key_file=str(missing))
    assert "No such file" in refusal(signing_key_file=str(missing))
    assert "it is no text" in refusal(signing_key_file=str(binary))
    assert "longer than" in refusal(signing_key_file=str(long))
    long.write_text("postgresql://a@b/c")
    assert "both set" in refusal(database_url_file=str(long), database_url="postgresql://a@b/c")
    assert "did you mean" in refusal(databse_url_file=str(long))
