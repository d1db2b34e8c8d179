"""What servers and client libraries said, word for word, and what to do about it."""

import pytest

from orchestrator.servers.diagnosis import broker_fix, broker_refuses, database_fix, database_refuses, one_line


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        (
            "Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address "
            "mismatch, certificate is not valid for '127.0.0.1'. (_ssl.c:1006)",
            "name the host",
        ),
        (
            "Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
            "certificate in certificate chain (_ssl.c:1006)",
            "ssl_ca_certs",
        ),
        (
            "Error while reading from h:1 : (1, '[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)')",
            "it wants a client certificate",
        ),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert", "it wants a client certificate"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "it does not speak TLS"),
        ("invalid username-password pair or user is disabled.", "correct the password"),
        ("Authentication required.", "correct the password"),
        ("No master found for 'main' : auth:AuthenticationError", "under sentinel_kwargs"),
    ],
)
def test_a_broker_that_refuses_us(said: str, fix: str) -> None:
    assert fix in broker_fix(said)
    assert broker_refuses(said)


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Error 111 connecting to h:1. Connection refused.", "start it"),
        ("Timeout connecting to server", "does not answer rediss://"),
        ("Connection closed by server.", "wants TLS"),
        ("Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2427).", "ssl_certfile"),
        ("No master found for 'main'", "master_name"),
        ("LOADING Redis is loading the dataset in memory", "start it"),
    ],
)
def test_a_broker_that_may_come_back(said: str, fix: str) -> None:
    assert fix in broker_fix(said)
    assert not broker_refuses(said)


@pytest.mark.parametrize(
    ("said", "fix", "refuses"),
    [
        ("connection failed: SSL error: certificate verify failed", "sslrootcert", True),
        ('connection failed: root certificate file "/x.pem" does not exist', "sslrootcert", True),
        ('server certificate for "a" does not match host name "b"', "name the host", True),
        ("FATAL:  connection requires a valid client certificate", "sslcert", True),
        ("server does not support SSL, but SSL was required", "sslmode", True),
        ('FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", no encryption', "sslmode", True),
        ('FATAL:  password authentication failed for user "u"', "the password", True),
        ("connection refused", "start it", False),
        ("FATAL:  the database system is starting up", "try again in a while", False),
        ("FATAL:  could not write init file: No space left on device", "make room on the disk", False),
        ("FATAL:  sorry, too many clients already", "start it", False),
        ("no session was free within 10 s: the pooler has too few", "default_pool_size", False),
        ("query_wait_timeout", "default_pool_size", False),
        ("FATAL:  no more connections allowed (max_client_conn)", "orchestrator db connections", False),
        ("server login has been failing, try again later (server_login_retry)", "has lost PostgreSQL", False),
        ("server conn crashed?", "has lost PostgreSQL", False),
        ("pgbouncer cannot connect to server", "has lost PostgreSQL", False),
        ("idle_transaction_timeout", "switch that limit off", False),
        ("query_timeout", "switch that limit off", False),
    ],
)
def test_a_database(said: str, fix: str, refuses: bool) -> None:
    assert fix in database_fix(said)
    assert database_refuses(said) is refuses


def test_a_reason_is_one_line_without_the_clients_that_redis_py_spells_out() -> None:
    client = "<redis.client.Redis(<redis.connection.ConnectionPool(<redis.connection.Connection(db=0,x=<A at 0x1>)>)>)>"
    said = f"No master found for 'm' : {client} - auth:AuthenticationError, {client} - TimeoutError"
    assert one_line(said) == "No master found for 'm' : auth:AuthenticationError, TimeoutError"
    assert one_line("first.\nsecond") == "first"
