"""Histories in words, so that a counterexample can be read without the model."""

from __future__ import annotations

from .state import Answered, Asked, Delivery, Label, Reported

WORKERS = "ABCDEFGH"


def narrate(label: Label) -> str:
    """One event as a line."""
    name, details, fault = label
    text = _SENTENCES.get(name, _plain)(name, details)
    return f"  {'!' if fault else ' '} {text}"


def _plain(name: str, details: tuple[object, ...]) -> str:
    return " ".join([name, *(_thing(d) for d in details)])


def _of_worker(name: str, details: tuple[object, ...]) -> str:
    worker, *rest = details
    return " ".join([f"worker {_letter(worker)}: {name}", *(_thing(d) for d in rest)])


def _call(name: str, details: tuple[object, ...]) -> str:
    worker, sequence, attempt, *rest = details
    tail = "".join(f", {_step(step)}" for step in rest)
    return f"worker {_letter(worker)}: attempt {attempt} of operation {sequence} {name}{tail}"


def _step(step: object) -> str:
    if isinstance(step, int):
        return f"step {step + 1}" if step >= 0 else f"taking back step {~step + 1}"
    return str(getattr(step, "value", step))


def _copy(name: str, details: tuple[object, ...]) -> str:
    return f"{name}: operation {details[0]}, round {details[1]}"


def _moved(name: str, details: tuple[object, ...]) -> str:
    return f"{name}: from worker {_letter(details[0])} to worker {_letter(details[1])}"


def _cut(name: str, details: tuple[object, ...]) -> str:
    return f"worker {_letter(details[0])}: {name}, {details[1]} of its messages under way arrive"


def _letter(worker: object) -> str:
    return WORKERS[worker] if isinstance(worker, int) else str(worker)


def _thing(thing: object) -> str:
    if isinstance(thing, Delivery):
        void = "" if thing.live else ", taken back since"
        return f"operation {thing.sequence} (round {thing.round}, delivery {thing.deliveries}{void})"
    if isinstance(thing, Asked):
        what = f"renewal of attempt {thing.renews}" if thing.renews else "question"
        return f"{_letter(thing.worker)}'s {what} for operation {thing.sequence} (round {thing.round}, delivery {thing.deliveries})"
    if isinstance(thing, Reported):
        return (
            f"{_letter(thing.worker)}'s outcome of attempt {thing.attempt} of operation {thing.sequence}: {thing.kind}"
        )
    if isinstance(thing, Answered):
        wait = f", wait {thing.wait}" if thing.wait else ""
        attempt = f" of attempt {thing.attempt}" if thing.attempt else ""
        return f"{thing.verdict}{attempt}{wait}{', cancel' if thing.cancel else ''}"
    return str(thing)


_SENTENCES = {
    "wakes": _of_worker,
    "pause": _of_worker,
    "receives": _of_worker,
    "hears": _of_worker,
    "report nacked": _of_worker,
    "consumer cancelled": _of_worker,
    "dead letter": _of_worker,
    "answer lost": _of_worker,
    "driver bug": _of_worker,
    "clock stands": _of_worker,
    "driver fails": _of_worker,
    "lands": _call,
    "guards": _call,
    "ends": _call,
    "broker confirms copy": _copy,
    "copy nacked": _copy,
    "confirm lost": _copy,
    "copy purged": _copy,
    "copy late": _copy,
    "confirmed in memory only": _copy,
    "flap": _moved,
    "flap, uncounted": _moved,
    "takeover": _moved,
    "connection lost": _cut,
}
