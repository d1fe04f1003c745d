"""WQL is parsed, not guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation_hyperv.cim import Instance
from federation_hyperv.testing.wql import Related, Select, WqlError, parse

MACHINE = Instance(
    "Msvm_ComputerSystem",
    {
        "Name": "A-1",
        "CreationClassName": "Msvm_ComputerSystem",
        "EnabledState": 2,
        "Description": "Microsoft Virtual Machine",
    },
)
DISK = Instance(
    "Msvm_ResourceAllocationSettingData", {"InstanceID": "Microsoft:A-1\\B\\0", "Address": "0", "Parent": MACHINE.path}
)


def holds(where, instance=MACHINE):
    query = parse(f"SELECT * FROM {instance.class_name} WHERE {where}")
    assert isinstance(query, Select)
    return query.condition(instance)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("EnabledState = 2", True),
        ("EnabledState = '2'", True),
        ("2 = EnabledState", True),
        ("EnabledState > 2", False),
        ("3 > EnabledState", True),
        ("EnabledState <> 3 AND NOT Name = 'B'", True),
        ("name = 'a-1'", True),
        ('Name = "A-1"', True),
        ("Name LIKE 'A%'", True),
        ("Name LIKE '_-[0-9]'", True),
        ("Name LIKE 'A.1'", False),
        ("Name LIKE '_-[^0-9]'", False),
        ("NOT Name LIKE 'A%'", False),
        ("ElementName IS NULL", True),
        ("ElementName IS NOT NULL", False),
        ("ElementName = NULL", True),
        ("ElementName = 'x'", False),
        ("(EnabledState != 0 and EnabledState != 3 and EnabledState != 32769) ", True),
        ("EnabledState = 3 OR EnabledState = 4 OR Name = 'A-1'", True),
        ("EnabledState = 2 OR EnabledState = 3 AND Name = 'B'", True),
        ("(EnabledState = 2 OR EnabledState = 3) AND Name = 'B'", False),
        ("__CLASS = 'msvm_computersystem'", True),
        (f"__PATH = '{MACHINE.path}'", True),
    ],
)
def test_a_condition_selects_what_it_says(where, expected):
    assert holds(where) is expected


def test_an_object_path_is_found_as_it_stands_and_with_its_backslashes_doubled():
    path = MACHINE.path
    assert holds(f"Parent = '{path}'", DISK)
    assert holds("Parent = '" + path.replace("\\", "\\\\") + "'", DISK)
    assert holds("InstanceID LIKE 'Microsoft:A-1%'", DISK)
    assert not holds("InstanceID LIKE '%\\Default'", DISK)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_associators_name_an_object_and_restrictions(quote):
    text = f"associators of {{Msvm_ComputerSystem.Name={quote}A-1{quote}}} where AssocClass = X ResultClass = Y ResultRole = Z"
    query = parse(text)
    assert isinstance(query, Related)
    assert (query.source.keys, query.association, query.result, query.result_role) == (
        (("Name", "A-1"),),
        "X",
        "Y",
        "Z",
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "SELECT", "SELECT * FROM", "SELECT * Msvm_X", "SELECT * FROM X WHERE", "SELECT * FROM X WHERE a =",
        "SELECT * FROM X WHERE (a = 1", "SELECT * FROM X WHERE a = 1 b", "DELETE FROM X", "ASSOCIATORS OF X",
        "ASSOCIATORS OF {X.Name='a'} WHERE Colour = red", "SELECT * FROM __InstanceCreationEvent WITHIN 2", "SELECT * FROM X; --",
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused(text):
    with pytest.raises(WqlError):
        parse(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    try:
        parse("SELECT * FROM Msvm_ComputerSystem WHERE " + text)
    except WqlError:
        return


@given(st.text(alphabet=st.characters(exclude_characters="'\\", exclude_categories=["Cs"]), max_size=30))
def test_any_quoted_string_is_found_again(text):
    assert holds(f"ElementName = '{text}'", MACHINE.copy(ElementName=text))
