"""The table of what is tried with every operation: a new operation of the contract is a new row here, and no new case.

A row says how to bring an instance into the state from which the operation is tried (``start``, then ``before``), what is
asked (``arguments``), and what has to be true afterwards (``expect``).  The cases run every row undisturbed, repeated,
killed at every changing call, revoked, cancelled and out of time.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.conformance import asking, expecting
from federation.conformance.asking import Ask
from federation.conformance.bench import Bench, Subject
from federation.conformance.expecting import Expect
from federation.contract.capabilities import Capability
from federation.contract.operations import find
from federation.contract.validation import parse_request, required_capabilities


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a set-up; ``word`` names its id, for what is named after it."""

    name: str
    ask: Ask
    word: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row.

    ``ready`` waits for the guest to be up first; ``no_way_back`` says that it may go on to its end when it is cancelled
    behind its first change; ``reached`` that there is nothing to do.
    """

    name: str
    variant: str
    start: str
    ask: Ask
    expect: Expect
    before: tuple[Step, ...] = ()
    ready: bool = False
    no_way_back: bool = False
    reached: bool = False

    @property
    def id(self) -> str:
        """As it stands in a case's name."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    def steps(self) -> tuple[Step, ...]:
        """The whole set-up."""
        return (*STARTS[self.start], *self.before)

    def needs(self, bench: Bench) -> frozenset[Capability]:
        """Every capability that the row needs, from set-up to end."""
        subject = Subject(bench.nodes[0])
        asked = [(self.name, self.ask), *((step.name, step.ask) for step in self.steps())]
        found: frozenset[Capability] = frozenset()
        with bench.imagining():
            for name, ask in asked:
                operation = find(name)
                found |= required_capabilities(operation, parse_request(operation, ask(bench, subject)))
        return found | (
            {Capability.CONSOLE_OUTPUT} if self.ready and bench.target.conformance.guest.ready_line else set()
        )

    def prepare(self, bench: Bench, subject: Subject) -> None:
        """Carry the set-up out."""
        for number, step in enumerate(self.steps(), start=1):
            operation = subject.id_of(step.word or f"step {number}")
            bench.succeed(step.name, step.ask(bench, subject), operation=operation)
        if self.ready:
            bench.wait_ready(subject)


_RUN = Step("create", asking.creation())
_STOP = Step("create", asking.creation(start=False))
_ATTACH = Step("attach_volume", asking.attach_new)
STARTS: dict[str, tuple[Step, ...]] = {
    "absent": (),
    "stopped": (_STOP,),
    "running": (_RUN,),
    "paused": (_RUN, Step("pause", asking.instance())),
    "suspended": (_RUN, Step("suspend", asking.instance())),
}
"""How an instance comes into each state."""

_TAKE = Step("create_snapshot", asking.snapshot(), "snapshot")
_S = Scenario
SCENARIOS: tuple[Scenario, ...] = (
    # First, because they take longest, and whoever runs side by side does not wait for them in the end.
    _S("migrate", "live", "running", asking.migrate("live"), expecting.moved("running"), no_way_back=True),
    _S("migrate", "cold", "stopped", asking.migrate("cold"), expecting.moved("stopped"), no_way_back=True),
    _S("create", "", "absent", asking.creation(), expecting.created("running")),
    _S("create", "stopped", "absent", asking.creation(start=False), expecting.created("stopped")),
    *(
        _S("create", f"boot_{kind}", "absent", asking.creation(start=False, kind=kind), expecting.created("stopped"))
        for kind in ("image", "template", "volume", "kernel")
    ),
    _S("create", "topology", "absent", asking.with_topology, expecting.created("stopped")),
    _S("create", "linked", "absent", asking.with_linked_template, expecting.created("stopped")),
    _S("create", "disks", "absent", asking.with_disks, expecting.created_disks),
    _S("create", "interface", "absent", asking.with_interface, expecting.created("stopped", interfaces=1)),
    _S("create", "vlan", "absent", asking.with_vlan, expecting.created("stopped", interfaces=1)),
    _S("create", "guest_setup", "absent", asking.creation(start=False, guest={"user_data": "#cloud-config\n{}\n", "ssh_keys": ["ssh-ed25519 AAAA kit"]}), expecting.created("stopped")),
    _S("create", "metadata", "absent", asking.creation(start=False, metadata=asking.METADATA), expecting.created_metadata),
    _S("destroy", "running", "running", asking.instance(), expecting.gone, no_way_back=True),
    _S("destroy", "stopped", "stopped", asking.instance(), expecting.gone, no_way_back=True),
    _S("destroy", "suspended", "suspended", asking.instance(), expecting.gone, no_way_back=True),
    _S("destroy", "absent", "absent", asking.instance(), expecting.gone, reached=True),
    _S("resize", "", "stopped", asking.resize, expecting.resized("stopped")),
    _S("resize", "live", "running", asking.resize_live, expecting.resized("running")),
    _S("power_on", "", "stopped", asking.instance(), expecting.shows(power_state="running")),
    _S("power_on", "running", "running", asking.instance(), expecting.shows(power_state="running"), reached=True),
    _S("power_on", "suspended", "suspended", asking.instance(), expecting.shows(power_state="running")),
    _S("power_off", "hard", "running", asking.instance(mode="hard"), expecting.shows(power_state="stopped")),
    _S("power_off", "graceful", "running", asking.instance(mode="graceful", timeout_seconds=60.0), expecting.shows(power_state="stopped"), ready=True),
    _S("power_off", "stopped", "stopped", asking.instance(), expecting.shows(power_state="stopped"), reached=True),
    _S("power_off", "paused", "paused", asking.instance(), expecting.shows(power_state="stopped")),
    _S("power_off", "suspended", "suspended", asking.instance(), expecting.shows(power_state="stopped")),
    _S("reboot", "hard", "running", asking.instance(mode="hard"), expecting.shows(power_state="running"), no_way_back=True),
    _S("reboot", "soft", "running", asking.instance(mode="soft", timeout_seconds=60.0), expecting.shows(power_state="running"), ready=True, no_way_back=True),
    _S("pause", "", "running", asking.instance(), expecting.shows(power_state="paused")),
    _S("pause", "paused", "paused", asking.instance(), expecting.shows(power_state="paused"), reached=True),
    _S("unpause", "", "paused", asking.instance(), expecting.shows(power_state="running")),
    _S("unpause", "running", "running", asking.instance(), expecting.shows(power_state="running"), reached=True),
    _S("suspend", "", "running", asking.instance(), expecting.shows(power_state="suspended")),
    _S("suspend", "suspended", "suspended", asking.instance(), expecting.shows(power_state="suspended"), reached=True),
    _S("resume", "", "suspended", asking.instance(), expecting.shows(power_state="running")),
    _S("resume", "running", "running", asking.instance(), expecting.shows(power_state="running"), reached=True),
    _S("attach_volume", "new", "stopped", asking.attach_new, expecting.attached_new),
    _S("attach_volume", "new-running", "running", asking.attach_new, expecting.attached_new, ready=True),
    _S("attach_volume", "stored", "stopped", asking.attach_stored, expecting.attached),
    _S("attach_volume", "read_only", "stopped", asking.attach_read_only, expecting.attached),
    _S("detach_volume", "", "stopped", asking.detach(), expecting.detached, before=(_ATTACH,)),
    _S("detach_volume", "delete", "stopped", asking.detach(delete=True), expecting.detached, before=(_ATTACH,), no_way_back=True),
    _S("detach_volume", "running", "running", asking.detach(timeout_seconds=30.0), expecting.detached, before=(_ATTACH,), ready=True, no_way_back=True),
    _S("extend_volume", "", "stopped", asking.extend, expecting.extended, before=(_ATTACH,), no_way_back=True),
    _S("extend_volume", "running", "running", asking.extend, expecting.extended, before=(_ATTACH,), no_way_back=True),
    _S("attach_interface", "", "stopped", asking.attach_interface, expecting.connected),
    _S("attach_interface", "running", "running", asking.attach_interface, expecting.connected),
    _S("detach_interface", "", "stopped", asking.detach_interface, expecting.disconnected, before=(Step("attach_interface", asking.attach_known_interface),)),
    _S("detach_interface", "running", "running", asking.detach_interface, expecting.disconnected, before=(Step("attach_interface", asking.attach_known_interface),), ready=True, no_way_back=True),
    _S("create_snapshot", "", "stopped", asking.snapshot(), expecting.kept),
    _S("create_snapshot", "memory", "running", asking.snapshot(memory=True), expecting.kept),
    _S("revert_snapshot", "", "stopped", asking.of_snapshot, expecting.reverted("stopped"), before=(_TAKE,), no_way_back=True),
    _S("revert_snapshot", "memory", "running", asking.of_snapshot, expecting.reverted("running"),
       before=(Step("create_snapshot", asking.snapshot(memory=True), "snapshot"), Step("power_off", asking.instance())), no_way_back=True),
    _S("delete_snapshot", "", "stopped", asking.of_snapshot, expecting.no_snapshot, before=(_TAKE,), no_way_back=True),
    _S("delete_snapshot", "absent", "stopped", asking.of_snapshot, expecting.no_snapshot, reached=True),
    _S("capture_image", "template", "stopped", asking.capture_template, expecting.captured),
    _S("capture_image", "upload", "stopped", asking.capture_upload, expecting.captured, no_way_back=True),
    _S("send_nmi", "", "running", asking.instance(), expecting.unchanged_state("running"), no_way_back=True),
)  # fmt: skip
"""Every ordered operation of an instance with each mode that is a way of its own.

Not here, and checked by cases of their own: adopt and set_node_maintenance (they are about other things than an instance
of the case) and set_admin_password (it needs an agent in the guest).
"""

BY_ID = {scenario.id: scenario for scenario in SCENARIOS}
