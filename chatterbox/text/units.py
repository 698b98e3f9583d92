"""How currencies, units of measure and scales are written → how they are said. Tables only."""

from dataclasses import dataclass
from typing import Final

from chatterbox.text.numbers import is_one


@dataclass(frozen=True, slots=True)
class Currency:
    singular: str
    plural: str
    cent: str = ""
    cents: str = ""

    def noun(self, number: str) -> str:
        return self.singular if is_one(number) else self.plural


def _dollars(country: str = "") -> Currency:
    name = f"{country} dollar".strip()
    return Currency(name, name + "s", "cent", "cents")


_POUND: Final = Currency("pound", "pounds", "penny", "pence")
_EURO: Final = Currency("euro", "euros", "cent", "cents")
_YEN: Final = Currency("yen", "yen")
_RUPEE: Final = Currency("rupee", "rupees")
_FRANC: Final = Currency("Swiss franc", "Swiss francs")
CURRENCIES: Final = {
    "$": _dollars(),
    "US$": _dollars("U.S."),
    "USD": _dollars("U.S."),
    "C$": _dollars("Canadian"),
    "CA$": _dollars("Canadian"),
    "CAD": _dollars("Canadian"),
    "A$": _dollars("Australian"),
    "AU$": _dollars("Australian"),
    "AUD": _dollars("Australian"),
    "NZ$": _dollars("New Zealand"),
    "HK$": _dollars("Hong Kong"),
    "£": _POUND,
    "GBP": _POUND,
    "€": _EURO,
    "EUR": _EURO,
    "¥": _YEN,
    "JPY": _YEN,
    "CNY": Currency("yuan", "yuan"),
    "RMB": Currency("yuan", "yuan"),
    "₹": _RUPEE,
    "INR": _RUPEE,
    "₩": Currency("won", "won"),
    "KRW": Currency("won", "won"),
    "₽": Currency("ruble", "rubles"),
    "RUB": Currency("ruble", "rubles"),
    "₿": Currency("bitcoin", "bitcoins"),
    "BTC": Currency("bitcoin", "bitcoins"),
    "₺": Currency("lira", "lira"),
    "₴": Currency("hryvnia", "hryvnias"),
    "₪": Currency("shekel", "shekels"),
    "₫": Currency("dong", "dong"),
    "฿": Currency("baht", "baht"),
    "₱": Currency("peso", "pesos"),
    "MXN": Currency("peso", "pesos"),
    "BRL": Currency("real", "reals"),
    "CHF": _FRANC,
    "SEK": Currency("Swedish krona", "Swedish kronor"),
    "NOK": Currency("Norwegian krone", "Norwegian kroner"),
    "DKK": Currency("Danish krone", "Danish kroner"),
    "PLN": Currency("zloty", "zlotys"),
    "¢": Currency("cent", "cents"),
}

SCALES: Final = {
    **{name: name for name in ("hundred", "thousand", "million", "billion", "trillion")},
    **{"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million"},
    **{"b": "billion", "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion"},
}

_COUNTED_UNITS: Final = """
    mm millimeter, cm centimeter, dm decimeter, m meter, km kilometer, nm nanometer, um micrometer,
    yd yard, mi mile, ft foot, ha hectare, ac acre, sq_ft square foot, sq_mi square mile,
    sq_m square meter, sq_km square kilometer, ug microgram, mg milligram, g gram, kg kilogram,
    t ton, lb pound, lbs pound, oz ounce, fl_oz fluid ounce, gal gallon, tsp teaspoon,
    tbsp tablespoon, ul microliter, ml milliliter, mL milliliter, cl centiliter, dl deciliter,
    l liter, L liter, ns nanosecond, us microsecond, ms millisecond, s second, sec second,
    secs second, min minute, mins minute, h hour, hr hour, hrs hour, yr year, yrs year,
    mW milliwatt, W watt, kW kilowatt, MW megawatt, GW gigawatt, mV millivolt, V volt, kV kilovolt,
    mA milliamp, mAh milliamp hour, Wh watt hour, kWh kilowatt hour, MWh megawatt hour, J joule,
    kJ kilojoule, cal calorie, kcal kilocalorie, Pa pascal, hPa hectopascal, kPa kilopascal,
    N newton, dB decibel, ohm ohm, kohm kiloohm, Mohm megaohm, kB kilobyte, KB kilobyte,
    MB megabyte, GB gigabyte, TB terabyte, PB petabyte, KiB kibibyte, MiB mebibyte, GiB gibibyte,
    kb kilobit, Mb megabit, Gb gigabit, px pixel, MP megapixel, kn knot, pt point
"""
_FIXED_UNITS: Final = {
    "mph": "miles per hour",
    "kph": "kilometers per hour",
    "km/h": "kilometers per hour",
    "kmh": "kilometers per hour",
    "mpg": "miles per gallon",
    "rpm": "RPM",
    "bpm": "beats per minute",
    "fps": "frames per second",
    "dpi": "DPI",
    "ppm": "parts per million",
    "psi": "PSI",
    "hp": "horsepower",
    "kbps": "kilobits per second",
    "Mbps": "megabits per second",
    "Gbps": "gigabits per second",
    "kb/s": "kilobits per second",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
}


def _units() -> dict[str, tuple[str, str]]:
    units = {written: (spoken, spoken) for written, spoken in _FIXED_UNITS.items()}
    for entry in _COUNTED_UNITS.split(","):
        written, _, singular = entry.strip().partition(" ")
        plural = singular.replace("foot", "feet") if "foot" in singular else singular + "s"
        units[written.replace("_", " ")] = (singular, plural)
    return units


UNITS: Final = _units()
"""Written → singular, plural."""

PER: Final = {
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "wk": "week",
    "mo": "month",
    "y": "year",
    "yr": "year",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "L": "liter",
    "l": "liter",
    "mL": "milliliter",
    "ml": "milliliter",
    "dl": "deciliter",
    "dL": "deciliter",
    "m": "meter",
    "m2": "square meter",
    "m^2": "square meter",
    "m3": "cubic meter",
    "m^3": "cubic meter",
    "km": "kilometer",
    "lb": "pound",
    "oz": "ounce",
    "gal": "gallon",
    "GB": "gigabyte",
    "kWh": "kilowatt hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "year",
    "hour": "hour",
    "second": "second",
    "minute": "minute",
    "person": "person",
    "night": "night",
}
