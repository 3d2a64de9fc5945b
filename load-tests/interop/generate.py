"""The postings of a seed: pins, places and users with the documented dirt, as record bytes.

Promise: a second producer. It shares nothing with Pintail's own posting emulation: other language, other generator,
other spelling of JSON. Every rule of the cleaning is met by values on both of its sides, and each unlucky shape comes
up by turns rather than by luck, so that a run of any size has seen all of them.
"""

import json
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

import damage

CATEGORIES = ["art", "beauty", "christmas", "diy-and-crafts", "education", "event-planning", "finance", "home-decor",
              "mens-fashion", "quotes", "tattoos", "travel", "vehicles"]
COUNTRIES = ["Albania", "Algeria", "Afghanistan", "Aruba", "American Samoa", "Cote d'Ivoire", "Cocos (Keeling) Islands",
             "Bouvet Island (Bouvetoya)", "Antarctica (the territory South of 60 deg S)", "Colombia", "Zimbabwe"]
FIRST = ["Aaron", "Amanda", "Adam", "Andrew", "Angela", "Abigail", "Dylan", "Rachel", "Zoë", "Michelle"]
LAST = ["Anderson", "Adams", "Abbott", "Brown", "O'Neill", "Ali", "Holmes", "Davis", "Nuñez", "Lloyd"]
WORDS = ["Island", "Oasis", "Craft", "\"basic\"", "diy,", "Café", "カーディガン", "Уютные", "𝒜𝑒𝓈𝓉𝒽𝑒𝓉𝒾𝒸", "🤍", "|", "naïve", "#love",
         "you’re", "a\u200db", "e\u0301", "שלום", "back\\slash", "tab\there", "line\nbreak", "nul\0in", "wide\u3000space",
         "no\u00a0break", "\x7f", "\uffff", "</script>", "{brace", "[bracket", "%s", "''", "line\u2028separator"]
EDGES = ["", " ", "\n", "\u00a0", " \u00a0\t", "\r\n", "\x0c"]

# (of 1,560 pins, media type, sentinels: Title, story Description, plain d, Poster and followers, taGs, Image, everything Null)
COMBINATIONS = [
    (1375, "image", ""), (70, "multi-video(story page format)", "D"), (40, "video", ""), (23, "image", "d"),
    (22, "multi-video(story page format)", "DI"), (14, "multi-video(story page format)", "TDPGI"), (6, "image", "G"),
    (2, "video", "d"), (1, "video", "G"), (7, None, "N"),
]
SENTINELS = {
    "T": {"title": "No Title Data Available"},
    "D": {"description": "No description available Story format"},
    "d": {"description": "No description available"},
    "P": {"poster_name": "User Info Error", "follower_count": "User Info Error"},
    "G": {"tag_list": "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"},
    "I": {"image_src": "Image src error.", "downloaded": 0},
    "N": {"image_src": None, "downloaded": 0},
}


class Json(NamedTuple):
    """Text that goes into the record as it is: forms that an encoder would not write."""

    text: str


MISSING = Json("")

INTEGERS = [Json("7528.0"), "7528", " 7528 ", "7528.0", "\u00a07528\n", -1, 0, 2**31 - 1, -(2**31)]
NO_INTEGERS = [2**31, -(2**31) - 1, Json("7528.5"), "7528.5", "2147483648", "abc", "", None, True, [7528], {"ind": 1}, "0x10",
               Json("1e400"), Json("123456789012345678901234567890"), "7 528", MISSING]
FOLLOWERS = ["437", "0", "51k", "51K", "6M", "1.2M", "3B", "2.147483647B", "2.147483648B", "1.9", "1.2345k", "0.0001k", " 7k ",
             "7k\u00a0", "5m", "1b", "-1", "1e3", "1 k", "k", "M", ".5k", "5.k", "1,000", "51kk", "k51", "", "user info error",
             0, 51000, -5, 2**31 - 1, 2**31, Json("51.5"), Json("1" * 30), True, None, ["51k"], {"k": 51}, MISSING]
AGES = [0, 17, 18, 24, 25, 35, 36, 50, 51, 150, 151, -1, 1000, "33", " 33 ", "old", "", None, True, [20], Json("25.5"), "25.5",
        2**40, MISSING]
LATITUDES = [90, -90, Json("90.0"), Json("-90.0000"), Json("90.0001"), -91, "12.5", " -12.5\n", "90", "91", "NaN", "inf", "-Infinity",
             "0x10", "1_0", "abc", "", "12,5", None, True, [1.5], {"lat": 1}, Json("1e400"), Json("1E1"), Json("-0.0"), Json("1e-400"),
             Json("0.1234567890123456789012345"), Json("9007199254740993e-15"), Json("5e-324"), Json("89.99999999999999"), MISSING]
LONGITUDES = [180, -180, Json("180.0001"), -180.5, "179.9", "-181", None, MISSING, *LATITUDES[16:]]
DATE_FORMS = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y:%m:%d %H:%M:%S", "%m/%d/%Y, %H:%M:%S"]
DATE_ENDS = [".5", ".123", ".123456", ".123456789", ".999999999", ".000000001", "Z", "+00:00", "+05:30", "-0800", "+1400",
             ".25Z", ".123456789+02:00", ".", ".1234567890", "+5", "+05", "+99:99", " UTC", "z ", ",5", "Zulu"]
NO_DATES = ["2020-08-28", "2020-8-28T03:52:47", "2020-08-28T3:52:47", "2020-08-28T03:52", "2020-08-28T03:52:60", "2020-08-28T24:00:00",
            "2020-08-28T23:60:00", "2020-02-30T00:00:00", "2019-02-29T00:00:00", "2020-00-10T00:00:00", "2020-13-10T00:00:00",
            "28/08/2020, 03:52:47", "8/28/2020, 03:52:47", "08/28/2020 03:52:47", "2020/08/28 03:52:47", "20-08-28T03:52:47", "yesterday",
            "1598586767000", 1598586767000, "", " ", None, True, ["2020-08-28T03:52:47"], {}, {"date": 1}, {"$date": None},
            {"$date": {"$numberLong": "1598586767000"}}, {"$date": "2020-08-28"}, {"$date": 9 * 10**18}, {"$date": True}, MISSING]
EDGE_DATES = ["2020-02-29T23:59:59", "1969-12-31T23:59:59.9999999", "1970-01-01T00:00:00", "2000-02-29 00:00:00Z", "1900-01-01T00:00:00.5",
              "2100-12-31T23:59:59.999999999-12:00", "0999-01-01T00:00:00", {"$date": 1598586767000},
              {"$date": -1}, {"$date": 0}, {"$date": "2020-08-28T03:52:47Z"}, {"$date": "08/28/2020, 03:52:47.5+01:00"}, {"$date": 253402300799999}]
NO_TEXT = [5, Json("1.5"), True, False, ["x"], [], {"x": "y"}, {}, None, MISSING]


class Turns:
    """Hands out a list's items one after the other, in an order of the seed, for ever."""

    def __init__(self, random, items):
        self._items = random.sample(items, len(items))
        self._next = 0

    def __call__(self):
        self._next += 1
        return self._items[self._next % len(self._items)]


class Generator:
    """Endless `(kind, partition key, payload)`: three records an action, with orphans, repeats, damage and garbage."""

    def __init__(self, seed, garbage=0.01, damaged=0.04, twisted=0.03, large=0.0003):
        self.random = random = Random(seed)
        self.rates = {"garbage": garbage, "damaged": damaged, "twisted": twisted, "large": large}
        self.integers, self.no_integers = Turns(random, INTEGERS), Turns(random, NO_INTEGERS)
        self.followers, self.ages = Turns(random, FOLLOWERS), Turns(random, AGES)
        self.latitudes, self.longitudes = Turns(random, LATITUDES), Turns(random, LONGITUDES)
        self.dates = Turns(random, NO_DATES + EDGE_DATES + [form + end for form in DATE_FORMS for end in DATE_ENDS])
        self.no_text = Turns(random, NO_TEXT)
        self.garbage = Turns(random, damage.GARBAGE)
        self.chains = Turns(random, damage.CHAINS)

    def __iter__(self):
        while True:
            ind = self.random.randint(0, 11000)
            action = [("pin", self._pin(ind)), ("geo", self._geo(ind)), ("user", self._user(ind))]
            if self._happens(0.02):
                action.pop(self.random.randrange(3))
            if self._happens(0.02):
                action.append(self.random.choice(action))
            for kind, fields in action:
                yield kind, self._key(kind), self._payload(kind, fields)

    def _happens(self, rate):
        return self.random.random() < rate

    def _twist(self, usual, unlucky):
        return unlucky() if self._happens(self.rates["twisted"]) else usual

    def _key(self, kind):
        """Mostly spread, some constant, as the postings in the wild are."""
        return f"{kind}-partition" if self._happens(0.1) else f"{self.random.getrandbits(64):x}"

    def _payload(self, kind, fields):
        text = self._encode(fields)
        if self._happens(self.rates["garbage"]):
            return self.garbage()(self.random, kind, text)
        if self._happens(self.rates["damaged"]):
            return damage.wrap(self.chains(), text)
        return text

    def _words(self, most):
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(1, most)))

    def _text(self, value):
        """A text field: as it is, with white space around it, or something that is no text."""
        if isinstance(value, str) and self._happens(self.rates["twisted"]):
            value = self.random.choice(EDGES) + value + self.random.choice(EDGES)
        return self._twist(value, self.no_text) if self._happens(0.2) else value

    def _pin(self, ind):
        category = self.random.choice(CATEGORIES)
        _, media, sentinels = self.random.choices(COMBINATIONS, [each[0] for each in COMBINATIONS])[0]
        hexes = f"{self.random.getrandbits(128):032x}"
        fields = {
            "index": self._ind(ind),
            "unique_id": f"{hexes[:8]}-{hexes[8:12]}-4{hexes[13:16]}-a{hexes[17:20]}-{hexes[20:]}",
            "title": self._twist(self._words(8), lambda: self.random.choice(["", "Untitled", ".", "…", "Slide1", "User Info Error", "no title data available"])),
            "description": self._words(24) + self.random.choice(["", "", "…\u00a0"]),
            "poster_name": self._words(3),
            "follower_count": self._twist(f"{self.random.randint(0, 985)}{self.random.choice(['', 'k', 'k', 'k', 'M'])}", self.followers),
            "tag_list": ",".join(self._words(2) for _ in range(9)),
            "is_image_or_video": media,
            "image_src": f"https://i.pinimg.com/originals/{hexes[:2]}/{hexes[2:4]}/{hexes[4:6]}/{hexes}.jpg",
            "downloaded": 1,
            "save_location": self._twist(f"Local save in /data/{category}", lambda: self.random.choice(
                [f"/data/{category}", "local save in /data/x", "Saved: Local save in /data/x", "Local save in Local save in /y"])),
            "category": category,
        }
        for sentinel in sentinels:
            fields.update(SENTINELS[sentinel])
        for name in fields.keys() - {"index", "follower_count", "downloaded"}:
            fields[name] = self._text(fields[name])
        if self._happens(self.rates["large"]):
            fields["raw"] = self._words(400) * self.random.randint(20, 160)
        return self._unknown(fields)

    def _geo(self, ind):
        latitude, longitude = self.random.uniform(-90, 90), self.random.uniform(-180, 180)
        return self._unknown({
            "ind": self._ind(ind),
            "timestamp": self._date(),
            "latitude": self._twist(float(f"{latitude:.6g}"), self.latitudes),
            "longitude": self._twist(float(f"{longitude:.6g}"), self.longitudes),
            "country": self._text(self.random.choice(COUNTRIES)),
        })

    def _user(self, ind):
        return self._unknown({
            "ind": self._ind(ind),
            "first_name": self._text(self.random.choice(FIRST)),
            "last_name": self._text(self.random.choice(LAST)),
            "age": self._twist(self.random.randint(20, 60), self.ages),
            "date_joined": self._date(),
        })

    def _ind(self, ind):
        value = self._twist(ind, self.integers)
        return self.no_integers() if self._happens(self.rates["garbage"]) else value

    def _date(self):
        moment = datetime(2015, 10, 20) + timedelta(seconds=self.random.randrange(7 * 365 * 86400))
        usual = moment.strftime(self.random.choices(DATE_FORMS, [70, 25, 3, 2])[0])
        unlucky = self._twist(usual, self.dates)
        return moment.strftime(unlucky) if isinstance(unlucky, str) and "%" in unlucky else unlucky

    def _unknown(self, fields):
        if self._happens(self.rates["twisted"]):
            fields[self.random.choice(["img_src", "extra", "Index", "IND", "é", "", "$date"])] = self.random.choice(
                [None, 1, Json("1e400"), Json("-12345678901234567890123"), [[], {}], {"a": {"b": [1, 2]}}, "x" * 300])
        return fields

    def _encode(self, fields):
        """Compact UTF-8 as on the wire; now and then escaped, spaced out, with a key twice or a key in escapes."""
        escaped, spaced = self._happens(0.05), self._happens(0.05)
        pairs = [(self._string(name, escaped), self._value(value, escaped)) for name, value in fields.items() if value is not MISSING]
        if pairs and self._happens(self.rates["twisted"]):
            name, value = self.random.choice(pairs)
            pairs.insert(0, (name, self.random.choice(["null", '"first"', "17", "{}", value])))
        if pairs and self._happens(self.rates["twisted"]):
            at = self.random.randrange(len(pairs))
            name, value = pairs[at]
            pairs[at] = (f'"\\u{ord(name[1]):04x}{name[2:]}' if len(name) > 2 and name[1].isalpha() else name, value)
        colon, comma = (" :\t", "\r\n, ") if spaced else (":", ",")
        return ("{" + comma.join(name + colon + value for name, value in pairs) + "}").encode()

    def _value(self, value, escaped):
        return value.text if isinstance(value, Json) else self._string(value, escaped)

    @staticmethod
    def _string(value, escaped):
        return json.dumps(value, ensure_ascii=escaped, separators=(",", ":"))
