"""CIM values as Python has them, and as text.

CIM's datetime is an instant or an interval.  WS-Management writes them as XML Schema's dateTime and duration inside
`cim:Datetime` and `cim:Interval` (DSP0230, 7.2); CIM-XML and WQL write `yyyymmddHHMMSS.mmmmmm±UUU` and
`ddddddddHHMMSS.mmmmmm:000` (DSP0004, 5.2.4).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, TypeAlias, Union

from federation_hyperv.cim.errors import BadValue
from federation_hyperv.cim.paths import Reference, parse_path

if TYPE_CHECKING:
    from federation_hyperv.cim.instances import Instance

Scalar: TypeAlias = Union[str, int, float, bool, dt.datetime, dt.timedelta, Reference, "Instance"]
Value: TypeAlias = Scalar | list[Scalar] | None

INTEGERS = {f"{sign}{bits}": (sign, bits) for sign in ("uint", "sint") for bits in (8, 16, 32, 64)}
_INTERVAL = re.compile(r"^(\d{8})(\d{2})(\d{2})(\d{2})\.([\d*]{6}):000$")
_INSTANT = re.compile(r"^(\d{14})\.([\d*]{6})([+-])(\d{3})$")
_DURATION = re.compile(r"^(-)?P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")


def in_range(value: int, kind: str) -> bool:
    """Whether an integer fits into a CIM integer type."""
    sign, bits = INTEGERS[kind]
    return 0 <= value < 1 << bits if sign == "uint" else -(1 << bits - 1) <= value < 1 << bits - 1


def read_scalar(text: str, kind: str) -> Scalar:
    """Read the text of one value of a CIM type; BadValue when it is not of the type."""
    try:
        if kind in INTEGERS:
            number = int(text.strip(), 0) if text.strip().lower().startswith("0x") else int(text.strip())
            if not in_range(number, kind):
                raise BadValue(f"{text} is not in the range of {kind}")
            return number
        if kind in {"real32", "real64"}:
            return float(text)
        if kind == "boolean":
            return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]
        if kind == "datetime":
            return read_time(text.strip())
        if kind == "reference":
            return parse_path(text)
    except (ValueError, KeyError) as error:
        raise BadValue(f"{text!r} is no {kind}") from error
    return text


def scalar_text(value: Scalar, kind: str) -> str:
    """The text of one value in CIM-XML; BadValue when it is not of the type."""
    if kind in INTEGERS:
        if isinstance(value, str):
            value = read_scalar(value, kind)
        if not isinstance(value, int) or not in_range(int(value), kind):
            raise BadValue(f"{value!r} is no {kind}")
        return str(int(value))
    if kind == "boolean":
        if isinstance(value, str):
            value = read_scalar(value, kind)
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return cim_instant(value)
    if isinstance(value, dt.timedelta):
        return cim_interval(value)
    if isinstance(value, Reference):
        return value.path()
    return str(value)


def cim_instant(value: dt.datetime) -> str:
    """An instant as DSP0004 writes it, in UTC."""
    moment = value.astimezone(dt.UTC)
    return moment.strftime("%Y%m%d%H%M%S.") + f"{moment.microsecond:06d}+000"


def cim_interval(value: dt.timedelta) -> str:
    """An interval as DSP0004 writes it."""
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{value.days:08d}{hours:02d}{minutes:02d}{seconds:02d}.{value.microseconds:06d}:000"


def duration(value: dt.timedelta) -> str:
    """An interval as XML Schema's duration."""
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"P{value.days}DT{hours}H{minutes}M{seconds}{fraction}S"


def read_time(text: str) -> dt.datetime | dt.timedelta:
    """Read any of the four forms; BadValue when it is none of them."""
    if found := _INTERVAL.match(text):
        days, hours, minutes, seconds = (int(found[index]) for index in range(1, 5))
        micro = int(found[5].replace("*", "0"))
        return dt.timedelta(days, seconds, micro, minutes=minutes, hours=hours)
    if found := _INSTANT.match(text):
        moment = dt.datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
        offset = dt.timedelta(minutes=int(found[3] + found[4]))
        return moment.replace(microsecond=int(found[2].replace("*", "0"))) - offset
    if (found := _DURATION.match(text)) and text.strip("-") != "P":
        span = dt.timedelta(
            days=int(found[2] or 0), hours=int(found[3] or 0), minutes=int(found[4] or 0), seconds=float(found[5] or 0)
        )
        return -span if found[1] else span
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadValue(f"{text!r} is no datetime") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
