"""Published CIM classes as data: one file for each, naming the page that publishes it.

Misprints of the pages were put right after the other classes that inherit the same property: `EnabledState` (uint16),
`CreationClassName`, `Description`, `NameFormat` (string), `AdditionalAvailability` (uint16), `TotalPowerOnHours` (uint64),
`HostResource` (an array).  `parents.json` holds the abstract classes between them.
"""
