"""An RPC server of its own process that writes down what it does: `ordered_server.py URL TOPIC NAME LOG`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import oslo_messaging
from oslo_config import cfg


class Steps:
    def __init__(self, name, log):
        self._name = name
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, what, key=None, number=None):
        line = {"what": what, "server": self._name, "key": key, "number": number}
        os.write(self._log, (json.dumps(line) + "\n").encode())

    def step(self, ctxt, number):
        self.write("begin", ctxt["ordering_key"], number)
        time.sleep(0.02)
        self.write("end", ctxt["ordering_key"], number)


def main(url, topic, name, log):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    conf = cfg.ConfigOpts()
    conf([], project="ordered-server")
    transport = oslo_messaging.get_rpc_transport(conf, url)
    steps = Steps(name, log)
    server = oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic=topic, server=name), [steps])
    server.start()
    steps.write("up")
    stop.wait()
    server.stop()
    server.wait()
    transport.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
