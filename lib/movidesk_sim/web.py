"""The simulator over HTTP: the API, the control interface and a page to look at."""
from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Callable

from flask import Flask, Response, request

from movidesk_sim.control import create_control
from movidesk_sim.faults import Fault, Faults
from movidesk_sim.made_calls import CallUrl
from movidesk_sim.model import CUT, Answer, Movidesk
from movidesk_sim.page import create_page
from movidesk_sim.server import Handler, Server

API = "/public/v1"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
log = logging.getLogger(__name__)


def create_app(model: Movidesk, faults: Faults | None = None, host: str = "127.0.0.1",
               call_url: Callable[[], CallUrl | None] = lambda: None) -> Flask:
    """`model` behind one lock: the API under /public/v1/, the control under /control/, the page at / (see create_page())."""
    app = Flask(__name__, static_folder=None)
    faults = faults or Faults()
    lock = threading.Lock()
    app.register_blueprint(create_control(model, faults, lock, host))
    app.register_blueprint(create_page(model, faults, lock, host, call_url))

    @app.route(API + "/<endpoint>", methods=METHODS, provide_automatic_options=False)
    def api(endpoint: str) -> Response:
        params = request.args.to_dict()
        with lock:
            fault = faults.take(endpoint) or Fault()
            travel = model.switches.latency / 2
        time.sleep(fault.delay + travel)
        with lock:
            answer = answer_with(model, fault, request.method, endpoint, params)
            model.log[-1]["fault"] = fault.name
        time.sleep(travel)
        cut = fault.cut or ("before" if answer.status == CUT else "")
        log_line(request.method, endpoint, params, answer, cut)
        if cut:
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        kind = "application/json" if answer.status == 200 else "text/plain"
        status = answer.status or 500  # CUT: nobody reads it
        return Response(answer.body, status, dict(answer.headers), mimetype=kind)

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


class Simulator:
    """A running simulator; as a context manager it starts and closes. `url` is what movidesk.conf wants, `home` the page."""

    def __init__(self, model: Movidesk, host: str, port: int, also: str = "") -> None:
        self.model = model
        self.faults = Faults()
        self.call_url: CallUrl | None = None  # where the page's button for calls asks for them
        app = create_app(model, self.faults, also or host, lambda: self.call_url)
        self._servers = [Server(host, port, app, Handler)]
        self.port: int = self._servers[0].server_address[1]
        if also:
            self._servers.append(Server(also, self.port, app, Handler))
        self.home = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"
        self.url = self.home + API
        self.control = self.home + "/control"
        self._threads: dict[Server, threading.Thread] = {}

    def start(self) -> Simulator:
        for server in self._servers:
            self._start(server)
        return self

    def run(self) -> None:
        """Serve until closed, or until Ctrl-C."""
        first, *others = self._servers
        for server in others:
            self._start(server)
        first.serve_forever(poll_interval=0.05)

    def _start(self, server: Server) -> None:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="movidesk-sim", daemon=True)
        self._threads[server] = thread
        thread.start()

    def close(self) -> None:
        """Stop listening and hang up, idle connections too."""
        for server, thread in self._threads.items():
            server.shutdown()
            thread.join()
        for server in self._servers:
            server.server_close()
            for connection in list(server.connections):
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def serve(model: Movidesk, host: str = "127.0.0.1", port: int = 0, also: str = "") -> Simulator:
    """Listen at once (port 0: any free one), answer from `start()` on. also: a second address, with the same port."""
    return Simulator(model, host, port, also)
