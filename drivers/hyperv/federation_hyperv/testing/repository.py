"""The instances of one simulated host, with the indexes that queries need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from federation_hyperv.cim import Instance, Reference, load_schemas
from federation_hyperv.cim.errors import UnknownClass
from federation_hyperv.testing.wql import Related, Select

Identity = tuple[str, str, tuple[tuple[str, str], ...]]
Source = Callable[[], list[Instance]]


class Repository:
    """Instances by class and by reference; associations are instances too, and go with what they tie."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._schemas = load_schemas()
        self._by_class: dict[str, dict[Identity, Instance]] = defaultdict(dict)
        self._tied: dict[Identity, dict[Identity, Instance]] = defaultdict(dict)
        self.fresh: Callable[[Instance], Instance] = lambda instance: instance
        """Gives an instance as it is now, its moving properties (up time, progress) filled in."""
        self.providers: dict[str, Callable[[Select], list[Instance]]] = {}
        """Classes that are answered from elsewhere, such as files, by lower-case name."""

    def add(self, instance: Instance) -> Instance:
        """Keep an instance; one with the same keys is replaced."""
        instance.host = self.host
        identity = instance.reference.identity()
        self._by_class[instance.class_name][identity] = instance
        if instance.cim_class.is_association:
            for end in _ends(instance):
                self._tied[end][identity] = instance
        return instance

    def tie(self, class_name: str, **ends: Reference | Instance) -> Instance:
        """Keep an association."""
        made = Instance(class_name)
        for name, end in ends.items():
            reference = end.reference if isinstance(end, Instance) else end
            made[name] = Reference(reference.class_name, reference.keys, reference.namespace, self.host)
        return self.add(made)

    def remove(self, reference: Reference) -> None:
        """Forget an instance and what ties it."""
        identity = reference.identity()
        for association in list(self._tied.pop(identity, {}).values()):
            self.remove_tie(association)
        for held in self._by_class.values():
            held.pop(identity, None)

    def remove_tie(self, association: Instance) -> None:
        """Forget an association."""
        identity = association.reference.identity()
        self._by_class[association.class_name].pop(identity, None)
        for end in _ends(association):
            if end in self._tied:
                self._tied[end].pop(identity, None)

    def find(self, reference: Reference) -> Instance | None:
        """The instance that a reference names, also by a class that it derives from; None when it is not here."""
        if self._schemas.has_instances(reference.class_name):
            namespace = self._schemas.get(reference.class_name).namespace
            reference = Reference(reference.class_name, reference.keys, namespace)
        identity = reference.identity()
        for name, held in self._by_class.items():
            if name.lower() == identity[1] and identity in held:
                return held[identity]
        for name, held in self._by_class.items():
            if self._schemas.is_a(name, reference.class_name):
                found = held.get((identity[0], name.lower(), identity[2]))
                if found is not None:
                    return found
        return self._by_some_keys(reference)

    def _by_some_keys(self, reference: Reference) -> Instance | None:
        """WMI answers a name that gives enough of the keys, such as Msvm_ComputerSystem.Name alone."""
        wanted = {(name.lower(), value.lower()) for name, value in reference.keys}
        found = [
            instance for instance in self.all(reference.class_name)
            if wanted <= set(instance.reference.identity()[2])
        ]  # fmt: skip
        return found[0] if len(found) == 1 else None

    def all(self, class_name: str) -> Iterator[Instance]:
        """All instances of a class and of those that derive from it."""
        for name in list(self._by_class):
            if self._schemas.is_a(name, class_name):
                yield from list(self._by_class[name].values())

    def one(self, class_name: str) -> Instance:
        """The only instance of a class, such as a service."""
        return next(self.all(class_name))

    def select(self, query: Select) -> list[Instance]:
        """What a SELECT answers; UnknownClass when there is no such class."""
        if not self._schemas.knows(query.class_name):
            raise UnknownClass(f"there is no class {query.class_name}")
        provider = self.providers.get(query.class_name.lower())
        held = provider(query) if provider else [self.fresh(item) for item in self.all(query.class_name)]
        return [item for item in held if query.condition(item)]

    def related(self, query: Related) -> list[Instance]:
        """What ASSOCIATORS OF or REFERENCES OF answers."""
        source = self.find(query.source)
        if source is None:
            raise LookupError(query.source.path())
        identity = source.reference.identity()
        found: dict[Identity, Instance] = {}
        for association in list(self._tied.get(identity, {}).values()):
            if query.references:
                if not query.result or self._schemas.is_a(association.class_name, query.result):
                    found[association.reference.identity()] = association
                continue
            if query.association and not self._schemas.is_a(association.class_name, query.association):
                continue
            for other in self._others(association, identity, query):
                found[other.reference.identity()] = self.fresh(other)
        return list(found.values())

    def _others(self, association: Instance, identity: Identity, query: Related) -> Iterator[Instance]:
        references = {name: value for name, value in association.properties.items() if isinstance(value, Reference)}
        own = {name for name, value in references.items() if self._identity(value) == identity}
        if query.role and query.role.lower() not in {name.lower() for name in own}:
            return
        for name, value in references.items():
            if name in own and len(own) == 1:
                continue
            if query.result_role and query.result_role.lower() != name.lower():
                continue
            other = self.find(value)
            if other is not None and (not query.result or self._schemas.is_a(other.class_name, query.result)):
                yield other

    def associated(self, source: Instance, association: str, result: str = "") -> list[Instance]:
        """The same for the simulator's own use, instances as they are kept."""
        query = Related(source.reference, association=association, result=result)
        identity = source.reference.identity()
        found: list[Instance] = []
        for tie in list(self._tied.get(identity, {}).values()):
            if self._schemas.is_a(tie.class_name, association):
                found.extend(self._others(tie, identity, query))
        return found

    @staticmethod
    def _identity(reference: Reference) -> Identity:
        return reference.identity()


def _ends(association: Instance) -> list[Identity]:
    return [value.identity() for value in association.properties.values() if isinstance(value, Reference)]
