"""The configuration files of a private Asterisk, as text."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

# What a PBX with PJSIP phones needs; the rest would open ports or complain that it was not configured.
WANTED_MODULES = (
    "app_*", "bridge_*", "codec_*", "format_*", "func_*", "res_format_attr_*", "res_pjsip*", "res_sorcery_*",
    "chan_pjsip", "chan_bridge_media", "pbx_config", "pbx_spool", "cdr_csv", "res_agi", "res_speech", "res_crypto",
    "res_curl", "res_manager_devicestate", "res_monitor", "res_musiconhold", "res_mutestream", "res_pjproject",
    "res_rtp_asterisk", "res_timing_timerfd", "res_clioriginate", "res_security_log",
)
UNWANTED_MODULES = (
    "app_adsiprog", "app_agent_pool", "app_alarmreceiver", "app_audiosocket", "app_dahdi*", "app_festival",
    "app_followme", "app_getcpeid", "app_ices", "app_image", "app_jack", "app_meetme", "app_minivm", "app_nbscat",
    "app_page", "app_sms",
    "app_statsd", "app_stasis*", "app_url", "app_voicemail_*", "codec_dahdi", "func_odbc", "res_pjsip_config_wizard",
    "res_pjsip_geolocation", "res_pjsip_notify", "res_pjsip_outbound_registration", "res_pjsip_phoneprov_provider",
    "res_pjsip_publish_asterisk", "res_pjsip_stir_shaken", "res_pjsip_transport_websocket", "res_sorcery_realtime",
)

FIXED_FILES: dict[str, str] = {
    "logger.conf": """\
[general]
dateformat = %F %T.%3q
[logfiles]
full => notice,warning,error,verbose
""",
    "extensions.conf": "[general]\n",
    "queues.conf": "[general]\n",
    "features.conf": "[general]\n",
    "udptl.conf": "[general]\n",
    "ccss.conf": "[general]\n",
    "acl.conf": "",
    "cli_permissions.conf": "[general]\ndefault_perm = permit\n",
    "codecs.conf": "",
    "confbridge.conf": "[general]\n",
    "stasis.conf": "",
    "pjproject.conf": "",
    "queuerules.conf": "[general]\n",
    "amd.conf": "[general]\n",
    "dtmfstore.conf": "",
    "http.conf": "[general]\nenabled = no\n",
    "cdr.conf": "[general]\nenable = yes\n[csv]\nusegmtime = yes\nloguniqueid = yes\nloguserfield = yes\n",
    "cel.conf": "[general]\nenable = no\n",
    "indications.conf": "[general]\ncountry = br\n[br]\ndescription = Brazil\nringcadence = 1000,4000\n"
                        "dial = 425\nbusy = 425/250,0/250\nring = 425/1000,0/4000\ncongestion = 425/250,0/250\n",
    "musiconhold.conf": "[default]\nmode = files\ndirectory = moh\n",
    "voicemail.conf": "[general]\nformat = wav\nminsecs = 1\n[default]\n",
}

# The addresses of the samples' pjsip.conf, and what stands for them here. Calls from outside come from an address of their
# own, by which Asterisk tells them from the phones.
_ANY_ADDRESS = "0.0.0.0:5060"
_PROVIDER = "192.0.2.10"
PHONES = "127.0.0.1"
TRUNK = "127.0.0.2"

_PJSIP_HEAD = f"""\
[udp]
type = transport
protocol = udp
bind = {_ANY_ADDRESS}
"""

_PHONE = """
[{name}]
type = endpoint
context = {context}
aors = {name}
disallow = all
allow = alaw,ulaw
direct_media = no
rtp_symmetric = yes
bind_rtp_to_media_address = yes
media_address = 127.0.0.1
dtmf_mode = auto_info
trust_id_inbound = yes

[{name}]
type = aor
max_contacts = 5
remove_existing = no
"""

_IDENTIFY_TRUNK = f"""
[trunk]
type = identify
endpoint = trunk
match = {_PROVIDER}
"""


def asterisk_conf(directories: Mapping[str, Path], systemname: str) -> str:
    lines = ["[directories]"] + [f"{name} => {path}" for name, path in directories.items()]
    lines += ["[options]", "verbose = 4", "nocolor = yes", "hideconnect = yes", "defaultlanguage = en"]
    if systemname:
        lines.append(f"systemname = {systemname}")
    return "\n".join(lines) + "\n"


def modules_conf(modules: Path) -> str:
    """Load what is wanted of the files in `modules`; versions differ in what they have."""
    names = sorted(path.stem for path in modules.glob("*.so"))
    load = [name for name in names if _matches(name, WANTED_MODULES) and not _matches(name, UNWANTED_MODULES)]
    return "\n".join(["[modules]", "autoload = no"] + [f"load = {name}.so" for name in load]) + "\n"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def pjsip_conf(agents: Sequence[str], trunk_context: str, agent_context: str) -> str:
    """The trunk and the agents' phones, without passwords."""
    trunk = _PHONE.format(name="trunk", context=trunk_context) + _IDENTIFY_TRUNK
    return _PJSIP_HEAD + trunk + pjsip_agents(agents, agent_context)


def pjsip_agents(agents: Sequence[str], context: str) -> str:
    """Agents' phones for a pjsip.conf, without passwords."""
    return "".join(_PHONE.format(name=name, context=context) for name in agents)


def on_loopback(pjsip_conf_text: str, port: int) -> str:
    """A pjsip.conf with its addresses replaced: it listens on loopback at `port`, the trunk is at TRUNK."""
    return pjsip_conf_text.replace(_ANY_ADDRESS, f"{PHONES}:{port}").replace(_PROVIDER, TRUNK)


def passwords(pjsip_conf_text: str) -> dict[str, str]:
    """The phones' passwords by user, as they stand in a pjsip.conf."""
    return dict(re.findall(r"^username = (\S+)\npassword = (\S+)$", pjsip_conf_text, re.MULTILINE))


def rtp_conf(first_port: int) -> str:
    return f"[general]\nrtpstart = {first_port}\nrtpend = {first_port + 498}\nicesupport = no\n"


def manager_conf(users: Mapping[str, str], port: int | None) -> str:
    if not users:
        return "[general]\nenabled = no\n"
    text = f"[general]\nenabled = yes\nport = {port}\nbindaddr = 127.0.0.1\n"
    for user, secret in users.items():
        text += f"[{user}]\nsecret = {secret}\nread = all\nwrite = all\n"
    return text
