"""`movidesk simulate`: the simulator until Ctrl-C."""
from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
import time
from pathlib import Path
from typing import Callable

from movidesk_sim.made_calls import CallUrl
from movidesk_sim.model import EXAMPLE_TOKEN, Limit, Movidesk, Switches
from movidesk_sim.server import CannotListen
from movidesk_sim.web import Simulator, serve


def main(argv: list[str] | None = None) -> int:
    """Run until interrupted."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        model = Movidesk(time.time, token=options.token, limit=Limit(options.limit, refuses=options.over_limit),
                         switches=Switches(latency=options.latency / 1000))
        add_agents(model, options.queue, options.agents)
        call_url = _call_url(options)
        with_asterisk = _rehearsal(model, options.host) if options.with_asterisk else None
    except (ValueError, OSError) as error:
        parser.error(str(error))
    also = "" if _is_loopback(options.host) else options.host
    if also:
        print(f"Warning: everybody who can reach {options.host}:{options.port} can read this page, with the callers' numbers, "
              "and can press its buttons. It asks for no password.", file=sys.stderr, flush=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        simulator = listen(model, options.host, options.port)
    except CannotListen as error:
        print(f"movidesk simulate: {error}. Another port: --port {options.port + 1}", file=sys.stderr)
        return 1
    simulator.call_url = call_url
    at = f" or http://{also}:{simulator.port}/" if also not in ("", "0.0.0.0") else ""
    say(f"See {simulator.home}/{at} for calls and agents. In movidesk.conf:\n\n"
        f"[movidesk]\nurl = {simulator.url}\ntoken = {options.token}\n")
    return with_asterisk(simulator, options.host, say) if with_asterisk else run(simulator)


def listen(model: Movidesk, host: str, port: int) -> Simulator:
    """At a loopback address, and at `host` too: the product sends its token to a simulator on its own machine only."""
    if _is_loopback(host) or host == "0.0.0.0":
        return serve(model, host, port)
    return serve(model, port=port, also=host)


def say(text: str) -> None:
    print(text, flush=True)


def run(simulator: Simulator) -> int:
    """Serve until Ctrl-C."""
    try:
        simulator.run()
    except KeyboardInterrupt:
        return 0
    finally:
        simulator.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="movidesk simulate", description="A stand-in for Movidesk's telephony API.")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="where it listens besides 127.0.0.1 (default: for this machine only)")
    parser.add_argument("--port", type=_port, default=8080, help="0: any that is free (default 8080)")
    parser.add_argument("--limit", type=int, default=10, help="requests a minute (default 10)")
    parser.add_argument("--over-limit", choices=("429", "cut"), default="429",
                        help="what happens over the limit: a 429, or the connection is cut (default 429)")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="milliseconds to an answer (default 0)")
    parser.add_argument("--token", default=EXAMPLE_TOKEN, metavar="GUID")
    parser.add_argument("--agents", default="5252=Ana Souza,5253=Bruno Lima",
                        help="extensions in order, with commas or blanks between; with names: 5252=Ana Souza,5253=Bruno Lima")
    parser.add_argument("--queue", type=int, default=77, help="id of the telephony group (default 77)")
    parser.add_argument("--call-url", metavar="URL", default="",
                        help="where the PBX is asked for calls that agents start, with {call.source.number} and "
                             "{call.destination.number} in it")
    parser.add_argument("--call-token-file", metavar="FILE", default="", help="its content is the token for --call-url")
    parser.add_argument("--with-asterisk", action="store_true",
                        help="in a checkout: start an Asterisk with movidesk-agi too, and say how a softphone calls it")
    return parser


def _port(text: str) -> int:
    """A port; without this, Python would listen at 34463 for 99999."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return int(text)


def add_agents(model: Movidesk, queue: int, text: str) -> None:
    """Add the group with these agents: extensions, or EXTENSION=NAME with commas between. Raises ValueError."""
    pairs = [part.strip() for part in (text.split(",") if "=" in text else text.replace(",", " ").split())]
    names = {extension.strip(): name.strip() for extension, _, name in (pair.partition("=") for pair in pairs if pair)}
    model.add_group(queue, list(names))
    for extension, name in names.items():
        if name:
            model.agents[extension].name = name


def _call_url(options: argparse.Namespace) -> CallUrl | None:
    """Raises OSError for a token that cannot be read."""
    if not options.call_url:
        return None
    token = Path(options.call_token_file).read_text(encoding="utf-8").strip() if options.call_token_file else ""
    return CallUrl(options.call_url, auth={"token": token} if token else {})


def _rehearsal(model: Movidesk, host: str) -> Callable[[Simulator, str, Callable[[str], object]], int]:
    """What runs the simulator with an Asterisk. Raises ValueError."""
    try:
        from movidesk_rehearsal import softphone
    except ImportError:
        raise ValueError("--with-asterisk needs a checkout of movidesk-agi (run make there first): the private Asterisk and its "
                         "phones are not installed on a PBX. There you have an Asterisk: docs/install.md, "
                         "Rehearse with the simulator") from None
    others = sorted(set(model.agents) - set(softphone.AUTOMATIC))
    if others:
        raise ValueError(f"--with-asterisk has phones for {' and '.join(softphone.AUTOMATIC)}, not for {', '.join(others)}")
    if host in ("0.0.0.0", "localhost"):
        raise ValueError(f"--with-asterisk: not --host {host} but an address of this machine, which softphones are told")
    return softphone.run


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
