"""The ordered ports: commands through a cluster's partitions, results back, answers, dead letters (DESIGN §6)."""

from __future__ import annotations

from federation.bus.answers import AnswerReceiver, AnswerSender
from federation.bus.commands import CommandConsumer, CommandPublisher, HeldCommand
from federation.bus.dead_letters import DeadLetter, DeadLetterConsumer
from federation.bus.results import HeldResult, ResultsConsumer, ResultSender

__all__ = [
    "AnswerReceiver",
    "AnswerSender",
    "CommandConsumer",
    "CommandPublisher",
    "DeadLetter",
    "DeadLetterConsumer",
    "HeldCommand",
    "HeldResult",
    "ResultSender",
    "ResultsConsumer",
]
