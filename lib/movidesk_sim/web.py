"""The simulator over HTTP: the API, the control interface and a page to look at."""
from __future__ import annotations

import argparse
import io
import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from flask import Flask, Response, render_template_string, request
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from movidesk_sim.control import Fault, Faults, create_control, state
from movidesk_sim.model import CUT, EXAMPLE_TOKEN, Answer, Limit, Movidesk, Switches

API = "/public/v1"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
log = logging.getLogger(__name__)

PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<title>Movidesk simulator</title>
<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:1em}
td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}</style>
<h2>Agents</h2><table><tr><th>Extension<th>Movidesk<th>Telephony<th>In call<th>Offered to
{% for a in agents %}<tr><td>{{ a.extension }} {{ a.name }}
<td>{{ "online" if a.online else "offline" }}<td>{{ "online" if a.telephony else "offline" }}
<td>{{ a.in_call or "" }}<td>{{ a.offered_to or "" }}{% endfor %}</table>
{% for title, calls in sections %}<h2>{{ title }}</h2>
<table><tr><th>Call<th>Queue<th>Number<th>Origin<th>State<th>Agent<th>Dates<th>Recording
{% for t in calls %}<tr><td>{{ t.id }}<td>{{ t.queue or "" }}<td>{{ t.number }}
<td>{{ t.origin }}<td>{{ t.state }}<td>{{ t.agent }}
<td>{% for name, date in t.dates.items() %}{{ name }} {{ date }} {% endfor %}
<td>{% for link in t.links %}{% if link.startswith(("http://", "https://")) -%}
<a rel="noreferrer" href="{{ link }}">{{ link }}</a>{% else %}{{ link }}{% endif %} {% endfor %}{% endfor %}
</table>{% endfor %}
<h2>Problems ({{ problems | length }}), repeated events ({{ duplicates }})</h2>
<ul>{% for problem in problems[-20:] %}<li>{{ problem.text }}{% endfor %}</ul>
"""


def create_app(model: Movidesk, faults: Faults | None = None) -> Flask:
    """`model` behind one lock: the API under /public/v1/, the control under /control/, a page at /."""
    app = Flask(__name__)
    faults = faults or Faults()
    lock = threading.Lock()
    app.register_blueprint(create_control(model, faults, lock))

    @app.route(API + "/<endpoint>", methods=METHODS, provide_automatic_options=False)
    def api(endpoint: str) -> Response:
        params = request.args.to_dict()
        with lock:
            fault = faults.take(endpoint) or Fault()
            travel = model.switches.latency / 2
        time.sleep(fault.delay + travel)
        with lock:
            answer = answer_with(model, fault, request.method, endpoint, params)
        time.sleep(travel)
        cut = fault.cut or ("before" if answer.status == CUT else "")
        log_line(request.method, endpoint, params, answer, cut)
        if cut:
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        kind = "application/json" if answer.status == 200 else "text/plain"
        status = answer.status or 500  # CUT: nobody reads it
        return Response(answer.body, status, dict(answer.headers), mimetype=kind)

    @app.get("/")
    def page() -> str:
        with lock:
            shown = state(model, faults)
        tickets = shown.pop("tickets")
        sections = [
            ("Waiting", [t for t in tickets if t["state"] in ("waiting", "offered")]),
            ("In call", [t for t in tickets if t["state"] == "transferred"]),
            ("Ended, newest first",
             [t for t in reversed(tickets) if t["complete"] or t["state"] == "made"][:100]),
        ]
        return render_template_string(PAGE, sections=sections, **shown)

    return app


def answer_with(model: Movidesk, fault: Fault, method: str, endpoint: str, params: dict) -> Answer:
    """The model's answer, or the fault's; both are in the model's log."""
    if fault.status or fault.cut == "before":
        answer = Answer(fault.status, "", {})
        model.record(method, endpoint, params, answer)
    else:
        answer = model.request(method, endpoint, params)
    body = answer.body if fault.body is None else fault.body
    extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    return Answer(answer.status, body, {**answer.headers, **extra})


def log_line(method: str, endpoint: str, params: dict, answer: Answer, cut: str) -> None:
    shown = " ".join(f"{name}={value}" for name, value in params.items() if name != "token")
    outcome = f"connection cut {cut}" if cut else f"{answer.status} {answer.body}"
    line = f"{method} {endpoint} {shown} -> {outcome}"
    log.info("%s", "".join(c if c.isprintable() else "?" for c in line))


class _Handler(WSGIRequestHandler):
    """Keeps connections open, which werkzeug's own does not, and logs nothing: that would show the token."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def run_wsgi(self) -> None:
        length = self.headers.get("Content-Length")
        if length is None and self.command == "POST":  # IIS does so too
            self.answer(Response("Content-Length: missing", 411, {"Connection": "close"}))
            return
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self.rfile.read(int(length or 0)))
        self.answer(Response.from_app(self.server.app, environ))

    def answer(self, response: Response) -> None:
        body = response.get_data()
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class _Server(ThreadedWSGIServer):
    """Knows its open connections: closing must end the idle ones too, or they would go on being answered."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: set[socket.socket] = set()

    def process_request(self, connection: socket.socket, address: Any) -> None:
        self.connections.add(connection)
        super().process_request(connection, address)

    def shutdown_request(self, connection: socket.socket) -> None:
        self.connections.discard(connection)
        super().shutdown_request(connection)


class Simulator:
    """A running simulator; as a context manager it starts and closes. `url` is what movidesk.conf wants."""

    def __init__(self, model: Movidesk, host: str, port: int) -> None:
        self.model = model
        self.faults = Faults()
        self._server = _Server(host, port, create_app(model, self.faults), _Handler)
        self.port: int = self._server.server_address[1]
        self.home = f"http://{host}:{self.port}"
        self.url = self.home + API
        self.control = self.home + "/control"
        self._thread: threading.Thread | None = None

    def start(self) -> Simulator:
        self._thread = threading.Thread(target=self.run, name="movidesk-sim", daemon=True)
        self._thread.start()
        return self

    def run(self) -> None:
        """Serve until closed."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop listening and hang up, idle connections too."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in list(self._server.connections):
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def serve(model: Movidesk, host: str = "127.0.0.1", port: int = 0) -> Simulator:
    """Listen at once (port 0: any free one), answer from `start()` on."""
    return Simulator(model, host, port)


def main(argv: list[str] | None = None) -> int:
    """`movidesk simulate`: run until interrupted."""
    parser = argparse.ArgumentParser(prog="movidesk simulate",
                                     description="A stand-in for Movidesk's telephony API.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--limit", type=int, default=10, help="requests a minute (default 10)")
    parser.add_argument("--over-limit", choices=("429", "cut"), default="429",
                        help="what happens over the limit: a 429, or the connection is cut (default 429)")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="milliseconds to an answer (default 0)")
    parser.add_argument("--token", default=EXAMPLE_TOKEN, metavar="GUID")
    parser.add_argument("--agents", default="5252,5253", help="extensions in order, with commas or blanks between")
    parser.add_argument("--queue", type=int, default=77, help="id of the telephony group (default 77)")
    options = parser.parse_args(argv)
    try:
        model = Movidesk(time.time, token=options.token, limit=Limit(options.limit, refuses=options.over_limit),
                         switches=Switches(latency=options.latency / 1000))
        model.add_group(options.queue, options.agents.replace(",", " ").split())
    except ValueError as error:
        parser.error(str(error))
    simulator = serve(model, port=options.port)
    print(f"See {simulator.home}/ for calls and agents. In movidesk.conf:\n\n"
          f"[movidesk]\nurl = {simulator.url}\ntoken = {options.token}\n", flush=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        simulator.run()
    except KeyboardInterrupt:
        return 0
    finally:
        simulator.close()
    return 0
