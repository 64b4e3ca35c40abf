"""The units of readings: one table of names, usual spellings and conversions.

A unit's name is SenML's (RFC 8428, RFC 8798) where it has one. Settings and readings may use any spelling in the table;
settings, answers and stored values carry the name alone::

    >>> canonical("°C"), canonical("percent"), canonical("degF"), canonical("furlong")
    ('Cel', '%', 'degF', None)
    >>> convert(68.0, "°F", "Cel"), convert(3000.0, "mV", "V")
    (20.0, 3.0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple


class Unit(NamedTuple):
    """A unit: ``value * scale + offset`` is the value in its base unit."""

    name: str
    base: str
    scale: float = 1.0
    offset: float = 0.0

    @property
    def converts(self) -> bool:
        """Return whether a value changes when it is converted to the base unit."""
        return (self.scale, self.offset) != (1.0, 0.0)


_TABLE: Final = (
    (Unit("Cel", "Cel"), "C °C ℃ degC deg_C celsius"),
    (Unit("degF", "Cel", 5 / 9, -160 / 9), "F °F ℉ [degF] fahrenheit"),
    (Unit("K", "Cel", 1.0, -273.15), "kelvin"),
    (Unit("%RH", "%RH"), "RH %rh rh"),
    (Unit("%", "%RH"), "percent pct /100"),
    (Unit("%EL", "%RH"), ""),
    (Unit("lx", "lx"), "lux"),
    (Unit("klx", "lx", 1e3), ""),
    (Unit("ppm", "ppm"), ""),
    (Unit("ppb", "ppm", 1e-3), ""),
    (Unit("W", "W"), "watt watts"),
    (Unit("mW", "W", 1e-3), ""),
    (Unit("kW", "W", 1e3), ""),
    (Unit("MW", "W", 1e6), ""),
    (Unit("Wh", "Wh"), ""),
    (Unit("kWh", "Wh", 1e3), ""),
    (Unit("MWh", "Wh", 1e6), ""),
    (Unit("J", "Wh", 1 / 3600), "joule"),
    (Unit("kJ", "Wh", 1 / 3.6), ""),
    (Unit("MJ", "Wh", 1e3 / 3.6), ""),
    (Unit("GJ", "Wh", 1e6 / 3.6), ""),
    (Unit("V", "V"), "volt volts"),
    (Unit("mV", "V", 1e-3), "millivolt"),
    (Unit("kV", "V", 1e3), ""),
    (Unit("A", "A"), "ampere amp amps"),
    (Unit("mA", "A", 1e-3), ""),
    (Unit("VA", "VA"), ""),
    (Unit("kVA", "VA", 1e3), ""),
    (Unit("var", "var"), ""),
    (Unit("kvar", "var", 1e3), ""),
    (Unit("Hz", "Hz"), "hertz"),
    (Unit("kHz", "Hz", 1e3), ""),
    (Unit("MHz", "Hz", 1e6), ""),
    (Unit("Ohm", "Ohm"), "Ω ohms"),
    (Unit("kOhm", "Ohm", 1e3), "kΩ"),
    (Unit("Pa", "hPa", 0.01), "pascal"),
    (Unit("hPa", "hPa"), "mbar"),
    (Unit("kPa", "hPa", 10.0), ""),
    (Unit("bar", "hPa", 1e3), ""),
    (Unit("psi", "hPa", 68.94757293168), ""),
    (Unit("mmHg", "hPa", 1.33322387415), "torr"),
    (Unit("inHg", "hPa", 33.86389), ""),
    (Unit("m", "m"), "metre meter"),
    (Unit("mm", "m", 1e-3), ""),
    (Unit("cm", "m", 1e-2), ""),
    (Unit("km", "m", 1e3), ""),
    (Unit("in", "m", 0.0254), "inch"),
    (Unit("ft", "m", 0.3048), "foot feet"),
    (Unit("mi", "m", 1609.344), "mile miles"),
    (Unit("m/s", "m/s"), ""),
    (Unit("km/h", "m/s", 1 / 3.6), "kph kmh"),
    (Unit("mph", "m/s", 0.44704), ""),
    (Unit("kn", "m/s", 1852 / 3600), "knots kt"),
    (Unit("m/s2", "m/s2"), "m/s²"),
    (Unit("mm/h", "mm/h"), ""),
    (Unit("in/h", "mm/h", 25.4), ""),
    (Unit("m2", "m2"), "m²"),
    (Unit("l", "l"), "litre liter"),
    (Unit("ml", "l", 1e-3), ""),
    (Unit("m3", "l", 1e3), "m³"),
    (Unit("gal", "l", 3.785411784), "gallon"),
    (Unit("l/s", "l/s"), ""),
    (Unit("l/min", "l/s", 1 / 60), ""),
    (Unit("l/h", "l/s", 1 / 3600), ""),
    (Unit("m3/s", "l/s", 1e3), "m³/s"),
    (Unit("m3/h", "l/s", 1 / 3.6), "m³/h"),
    (Unit("kg", "kg"), ""),
    (Unit("g", "kg", 1e-3), ""),
    (Unit("t", "kg", 1e3), "tonne"),
    (Unit("lb", "kg", 0.45359237), "lbs"),
    (Unit("ug/m3", "ug/m3"), "µg/m3 µg/m³ μg/m³ ug/m³"),
    (Unit("mg/m3", "ug/m3", 1e3), "mg/m³"),
    (Unit("s", "s"), "sec second seconds"),
    (Unit("ms", "s", 1e-3), ""),
    (Unit("min", "s", 60.0), "minute minutes"),
    (Unit("h", "s", 3600.0), "hour hours"),
    (Unit("d", "s", 86_400.0), "day days"),
    (Unit("deg", "deg"), "° degree degrees"),
    (Unit("rad", "deg", 57.29577951308232), ""),
    (Unit("W/m2", "W/m2"), "W/m²"),
    (Unit("S/m", "S/m"), ""),
    (Unit("mS/cm", "S/m", 0.1), ""),
    (Unit("uS/cm", "S/m", 1e-4), "µS/cm μS/cm"),
    (Unit("dB", "dB"), ""),
    (Unit("dBA", "dBA"), "dB(A)"),
    (Unit("dBm", "dBm"), ""),
    (Unit("pH", "pH"), ""),
    (Unit("NTU", "NTU"), ""),
    (Unit("mg/l", "mg/l"), ""),
    (Unit("cd", "cd"), ""),
    (Unit("lm", "lm"), ""),
    (Unit("T", "T"), ""),
    (Unit("uT", "T", 1e-6), "µT μT"),
    (Unit("N", "N"), ""),
    (Unit("Bq", "Bq"), ""),
    (Unit("Bq/m3", "Bq/m3"), "Bq/m³"),
    (Unit("Sv", "Sv"), ""),
    (Unit("uSv/h", "uSv/h"), "µSv/h μSv/h"),
    (Unit("B", "B"), ""),
    (Unit("bit/s", "bit/s"), ""),
    (Unit("lat", "lat"), ""),
    (Unit("lon", "lon"), ""),
    (Unit("beat/min", "beat/min"), "bpm"),
    (Unit("1/min", "1/min"), "rpm"),
    (Unit("count", "count"), ""),
    (Unit("/", "/"), ""),
    (Unit("1", "1"), ""),
)
"""Each unit with its other spellings. ``%`` and ``%RH`` count as one quantity: sensors send humidity in either."""

_EXACT: Final = {spelling: unit for unit, others in _TABLE for spelling in (unit.name, *others.split())}
_FOLDED: Final = Counter(spelling.casefold() for spelling in _EXACT)

UNITS: Final[Mapping[str, Unit]] = {
    **{spelling.casefold(): unit for spelling, unit in _EXACT.items() if _FOLDED[spelling.casefold()] == 1},
    **_EXACT,
}
"""The known spellings. Another case is accepted where it has only one meaning: ``mW`` and ``MW`` have two."""


def find(spelling: str) -> Unit | None:
    """Return the unit of this spelling, or None if the table does not have it."""
    return UNITS.get(spelling) or UNITS.get(spelling.casefold())


def canonical(spelling: str) -> str | None:
    """Return the name of a unit with this spelling, or None if it is unknown."""
    unit = find(spelling)
    return unit.name if unit else None


def convert(value: float, sent: str, wanted: str) -> float | None:
    """Return the value in another unit, or None if the units measure different quantities.

    A unit that is not in the table is only equal to itself.
    """
    of, to = find(sent) or Unit(sent, sent), find(wanted) or Unit(wanted, wanted)
    if of.base != to.base:
        return None
    if of.name == to.name:
        return value
    return float(f"{(value * of.scale + of.offset - to.offset) / to.scale:.12g}")


def spellings(name: str) -> list[str]:
    """Return the other spellings of a unit, as the table has them."""
    return [spelling for spelling, unit in _EXACT.items() if unit.name == name and spelling != name]
