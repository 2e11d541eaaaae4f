"""Links to recordings: their signature, and without a secret."""
from __future__ import annotations

import subprocess

import pytest

from movidesk.context import Context
from movidesk.recordings import links
from support.recordings import NAME, SECRET

DAY = 86400


def test_the_signature_is_nginxs(publisher, clock):
    """As nginx documents secure_link_md5: openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =."""
    expires = int(clock()) + 365 * DAY
    text = f"{expires}/{NAME} {SECRET}"
    pipe = "printf %s \"$1\" | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d ="
    expected = subprocess.run(["sh", "-c", pipe, "sh", text], stdout=subprocess.PIPE, text=True).stdout.strip()
    assert links.link(publisher.config, None, NAME, publisher.clock()) == (
        f"https://pbx.example.com/rec/{NAME}?expires={expires}&signature={expected}")


def test_a_template_with_a_query_keeps_it(configured, clock):
    publisher = Context(configured(link="https://pbx.example.com/?f={file}"), clock)
    assert links.link(publisher.config, None, NAME, publisher.clock()).startswith(f"https://pbx.example.com/?f={NAME}&expires=")


def test_without_a_secret_links_are_as_they_were(configured, clock):
    publisher = Context(configured(secret="", publish=""), clock)
    assert links.link(publisher.config, None, NAME, publisher.clock()) == "https://pbx.example.com/rec/" + NAME


def test_the_secret_does_not_print(configured, write_config, tmp_path):
    config = configured()
    assert SECRET not in repr(config["recordings", "secret"]) + repr(config.__dict__)
    (tmp_path / "secret").write_text(SECRET + "\n")
    assert configured(secret="", secret_file=str(tmp_path / "secret"))["recordings", "secret"].reveal() == SECRET
    problem, = configured(secret="short, and 'quoted'").all_problems()
    assert "short" not in problem and "19 characters must be 16 to 128" in problem


@pytest.mark.parametrize("missing", ["secret", "link"])
def test_publishing_needs_secret_and_link(configured, missing):
    assert "publish needs " + missing in configured(**{missing: ""}).all_problems()[0]
