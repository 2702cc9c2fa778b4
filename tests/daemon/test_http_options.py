import pytest

from ecotta_rt.daemon.http.http_options import HttpOptions, check_http
from ecotta_rt.errors import ConfigurationError

TOKEN = "a-long-enough-token"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.5"])
def test_this_machine_alone_needs_no_token(host):
    check_http(HttpOptions(enabled=True, host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "camera.local"])
def test_any_other_address_needs_one(host):
    with pytest.raises(ConfigurationError, match=f"http.host: {host} lets others on the network ask"):
        check_http(HttpOptions(enabled=True, host=host))
    check_http(HttpOptions(enabled=True, host=host, token=TOKEN))
    check_http(HttpOptions(enabled=False, host=host))


@pytest.mark.parametrize("token", ["short", "tökens-cannot-be-in-a-header"])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused_without_being_shown(token):
    with pytest.raises(ConfigurationError, match="http.token") as raised:
        check_http(HttpOptions(enabled=True, token=token))

    assert token not in str(raised.value)
