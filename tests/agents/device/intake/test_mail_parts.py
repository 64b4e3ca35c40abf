"""Mails of cameras: where the pictures are, what the text says, and whose camera it is."""

from __future__ import annotations

import time
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.device.intake.mail_parts import opened, source_of

JPEG = b"\xff\xd8\xff\xe0picture\xff\xd9"


def mail(text: str = "", to: str = "cams+cam1@example.org", subtype: str = "plain") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Trail Cam <camera@maker.example>", to, "MMS from Fox Hill"
    message["Date"] = "Fri, 05 Dec 2025 15:46:47 +0100"
    message.set_content(text, subtype=subtype)
    return message


def attached(message: EmailMessage, name: str, kind: str = "application/octet-stream") -> EmailMessage:
    main, _, sub = kind.partition("/")
    message.add_attachment(JPEG, maintype=main, subtype=sub, filename=name)
    return message


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "image/png", "video/mp4"])
@pytest.mark.parametrize("name", ["IMAG0001.JPG", "Füchse 狐.jpg", 'a"b.jpg', "../../etc/passwd"])
def test_an_attachment_is_found_whatever_its_type_and_name(kind: str, name: str) -> None:
    found = opened(attached(mail("hello"), name, kind).as_bytes())
    assert [file.data for file in found.files] == [JPEG]
    assert found.files[0].name == name
    assert (found.report, found.sent_s) == ("", 1764946007.0)


def test_a_forwarded_mails_picture_is_found() -> None:
    outer = mail("see below")
    outer.add_attachment(attached(mail("inner", to="other@example.org"), "x.jpg"))
    found = opened(outer.as_bytes())
    assert [file.data for file in found.files] == [JPEG]


def test_text_and_html_give_a_report() -> None:
    assert "Battery: 80%" in opened(mail("Battery: 80%\nTemp: 3 C").as_bytes()).report
    html = "<html><style>p{battery: 1%}</style><p>Battery: 55&#37;</p><br>Temp:&nbsp;3 C</html>"
    assert opened(mail(html, subtype="html").as_bytes()).report.split() == ["Battery:", "55%", "Temp:", "3", "C"]
    assert opened(mail("no values").as_bytes()).report == ""


def test_a_stream_is_found_by_address_or_subject_and_the_exact_pattern_counts_first() -> None:
    found = opened(mail().as_bytes())
    assert source_of(found, {"home/cam1/garden": "*+CAM1@example.org"}) == "home/cam1/garden"
    assert source_of(found, {"home/cam1/garden": "camera@maker.example"}) == "home/cam1/garden"
    assert source_of(found, {"home/cam1/garden": "*fox hill*"}) == "home/cam1/garden"
    assert source_of(found, {"home/cam2/yard": "*+cam2@example.org"}) is None
    both = {"home/all/cams": "*@maker.example", "home/cam1/garden": "camera@maker.example"}
    assert source_of(found, both) == "home/cam1/garden"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\xff\xfe",
        b"From: \xff\r\nTo: <a+b@c\r\nSubject: =?x-none?B?!!!?=\r\nContent-Type: multipart/mixed; boundary=\r\n\r\nx",
        b"Content-Type: text/plain; charset=x-unknown\r\n\r\nBattery: 5%",
        b"Content-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"Date: yesterday\r\n\r\n",
    ],
)
def test_a_damaged_mail_has_fewer_parts(data: bytes) -> None:
    opened(data)


@pytest.mark.parametrize(
    "data",
    [
        b"To: " + b"a@b.c, " * 20_000,
        b"To: " + b"(" * 30_000,
        b"To: a@b.c\r\n" * 5_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 20_000,
        b"Content-Type: text/html\r\n\r\n" + b"<br" * 500_000,
        b"Content-Type: text/html\r\n\r\n" + b"<style " * 100_000,
        b"Content-Type: image/jpeg; name*0*=a" + b"; name*1=b" * 20_000,
    ],
    ids=["addresses", "comments", "headers", "words", "html", "styles", "name"],
)
def test_a_mail_made_to_be_slow_is_not(data: bytes) -> None:
    before_s = time.process_time()
    opened(data + b"\r\n\r\nx")
    assert time.process_time() - before_s < 5.0  # without limits each takes 10 s to hours


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    opened(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + data)
