"""No text that leaves a process shows the user name, password or query of an address."""

from __future__ import annotations

import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.credentials import hidden, with_login

MARK = "Xq7"
"""In every secret of these tests, and in nothing else."""

ODD = string.ascii_letters + string.digits + "!$&'()*+,;=:@/?#%-._~ \"<>[]{}|\\^`äß"
secrets = st.text(ODD, max_size=12).map(lambda text: f"{MARK}{text}{MARK}")
schemes = st.sampled_from(["rtsp", "rtsps", "http", "https", "mqtt", "mqtts", "RTSP", "kafka+ssl"])
hosts = st.sampled_from(["10.0.0.7", "10.0.0.7:554", "cam.lan", "[::1]:8554", "cam"])
paths = st.sampled_from(["", "/", "/live", "/Streaming/Channels/101"])


@given(schemes, secrets, secrets, hosts, paths, st.sampled_from(["", "camera ", "(", "'"]))
def test_no_login_of_an_address_is_shown_whatever_its_letters(
    scheme: str, user: str, password: str, host: str, path: str, before: str
) -> None:
    for name in (user, urllib.parse.quote(user, safe="")):
        for word in (password, urllib.parse.quote(password, safe="")):
            if " " in name + word and "/" in name + word:  # no program takes it for one address
                continue
            shown = hidden(f"{before}{scheme}://{name}:{word}@{host}{path}")
            assert MARK not in shown
            assert host.split(":")[0] in shown


@given(schemes, hosts, secrets.map(lambda text: text.replace(" ", "")))
def test_no_query_and_no_login_in_a_path_is_shown(scheme: str, host: str, secret: str) -> None:
    plain = urllib.parse.quote(secret, safe="")
    for tail in (f"/video.cgi?user=a&pwd={plain}", f"/user=admin_password={plain}_channel=1.sdp", f"?token={plain}"):
        assert MARK not in hidden(f"{scheme}://{host}{tail}")


@given(secrets, secrets, hosts)
def test_a_login_without_a_scheme_is_not_shown(user: str, password: str, host: str) -> None:
    plain = [urllib.parse.quote(text, safe="") for text in (user, password)]
    assert MARK not in hidden(f"{plain[0]}:{plain[1]}@{host}/live: no such file or folder yet")


@given(st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    assert hidden(hidden(text)) == hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8701/health",
        "mqtts://broker.lan:8883: no route",
        "the model lite0@2 takes 60 ms",
        "rtsp://10.0.0.7/Streaming/Channels/101",
        "/photos/2026-01-01 12:00/a.jpg: no such file or folder yet",
        "[::1]:1884",
    ],
)
def test_a_text_without_credentials_stays_as_it_is(text: str) -> None:
    assert hidden(text) == text


@given(secrets, secrets)
def test_a_login_is_put_into_an_address_so_that_it_is_read_back(user: str, password: str) -> None:
    user = user.replace(":", "")
    parts = urllib.parse.urlsplit(with_login("rtsp://10.0.0.7:554/live", f"{user}:{password}"))
    assert (parts.hostname, parts.port, parts.path) == ("10.0.0.7", 554, "/live")
    assert (urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")) == (user, password)


def test_a_source_that_is_no_address_takes_no_login() -> None:
    assert [with_login(source, "a:b") for source in ("0", "/photos")] == ["0", "/photos"]
    assert with_login("rtsp://cam/live", "") == "rtsp://cam/live"
