"""Drawn scenes of the 1910s with legends that are true of them: photographs for the demo and the tests.

A scene is what its seed says, on every machine: what is seen, how many, where and in what weather; so are its legends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from neardup.builtin import brushes

LANGUAGES = ("fr", "it", "de", "en")
"""The languages of the legends, ISO 639-1."""
_SCALE = 2
"""Factor by which a scene is drawn larger than its final size, for smooth edges."""


@dataclass(frozen=True)
class Words:
    """One thing in four languages: alone with its article, and as a plural."""

    one: tuple[str, str, str, str]
    many: tuple[str, str, str, str]

    def counted(self, count: int, language: str) -> str:
        """The words for a number of the thing, 1 to 5: `three camels`."""
        index = LANGUAGES.index(language)
        return self.one[index] if count == 1 else f"{_NUMBERS[language][count - 2]} {self.many[index]}"


_NUMBERS = {
    "fr": ("deux", "trois", "quatre", "cinq"),
    "it": ("due", "tre", "quattro", "cinque"),
    "de": ("zwei", "drei", "vier", "fünf"),
    "en": ("two", "three", "four", "five"),
}
"""Language → its words for 2 to 5."""
_PLACES: Mapping[str, tuple[str, str, str, str]] = MappingProxyType(
    {
        "sea": ("devant le port", "davanti al porto", "vor dem Hafen", "off the harbour"),
        "desert": ("dans le désert", "nel deserto", "in der Wüste", "in the desert"),
        "plain": ("dans la plaine", "nella pianura", "in der Ebene", "in the plain"),
        "mountains": ("au pied des montagnes", "ai piedi delle montagne", "am Fuß der Berge", "below the mountains"),
        "town": ("devant la ville", "davanti alla città", "vor der Stadt", "before the town"),
    },
)
"""Place → the words for it in each of `LANGUAGES`."""
_WEATHERS: Mapping[str, tuple[str, str, str, str]] = MappingProxyType(
    {
        "clear": ("par temps clair", "con il sereno", "bei klarem Wetter", "in clear weather"),
        "cloudy": ("sous les nuages", "sotto le nuvole", "unter Wolken", "under clouds"),
        "night": ("pendant la nuit", "durante la notte", "in der Nacht", "at night"),
        "evening": ("au coucher du soleil", "al tramonto", "bei Sonnenuntergang", "at sunset"),
    },
)
"""Weather → the words for it in each of `LANGUAGES`."""


@dataclass(frozen=True)
class Kind:
    """What a scene shows: how it is drawn, what it is called, where it may stand and how large it is."""

    brush: brushes.Brush
    words: Words
    places: tuple[str, ...]
    size: float


_LAND = ("desert", "plain", "mountains", "town")
"""The places where what needs solid ground may stand."""
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "soldiers": Kind(
            brushes.soldier,
            Words(
                ("un soldat en armes", "un soldato in armi", "ein bewaffneter Soldat", "a soldier under arms"),
                ("soldats en armes", "soldati in armi", "bewaffnete Soldaten", "soldiers under arms"),
            ),
            _LAND,
            0.42,
        ),
        "camels": Kind(
            brushes.camel,
            Words(
                ("un chameau", "un cammello", "ein Kamel", "a camel"),
                ("chameaux", "cammelli", "Kamele", "camels"),
            ),
            ("desert", "town", "mountains"),
            0.4,
        ),
        "riders": Kind(
            brushes.rider,
            Words(
                ("un cavalier", "un cavaliere", "ein Reiter", "a rider on horseback"),
                ("cavaliers", "cavalieri", "Reiter", "riders on horseback"),
            ),
            _LAND,
            0.4,
        ),
        "ships": Kind(
            brushes.ship,
            Words(
                ("un vapeur", "un piroscafo", "ein Dampfer", "a steamship"),
                ("vapeurs", "piroscafi", "Dampfer", "steamships"),
            ),
            ("sea",),
            0.3,
        ),
        "tents": Kind(
            brushes.tent,
            Words(
                ("une tente", "una tenda", "ein Zelt", "a tent"),
                ("tentes", "tende", "Zelte", "tents"),
            ),
            _LAND,
            0.42,
        ),
        "houses": Kind(
            brushes.house,
            Words(
                ("une maison", "una casa", "ein Haus", "a house"),
                ("maisons", "case", "Häuser", "houses"),
            ),
            ("plain", "mountains"),
            0.45,
        ),
        "towers": Kind(
            brushes.tower,
            Words(
                ("un minaret", "un minareto", "ein Minarett", "a minaret"),
                ("minarets", "minareti", "Minarette", "minarets"),
            ),
            ("desert", "town"),
            0.42,
        ),
        "cannons": Kind(
            brushes.cannon,
            Words(
                ("un canon", "un cannone", "eine Kanone", "a cannon"),
                ("canons", "cannoni", "Kanonen", "cannons"),
            ),
            _LAND,
            0.38,
        ),
        "aeroplanes": Kind(
            brushes.plane,
            Words(
                ("un aéroplane", "un aeroplano", "ein Flugzeug", "an aeroplane"),
                ("aéroplanes", "aeroplani", "Flugzeuge", "aeroplanes"),
            ),
            ("sea", *_LAND),
            0.24,
        ),
        "palms": Kind(
            brushes.palm,
            Words(
                ("un palmier", "una palma", "eine Palme", "a palm tree"),
                ("palmiers", "palme", "Palmen", "palm trees"),
            ),
            ("desert", "town"),
            0.4,
        ),
    },
)
"""What a scene may show, by name."""


@dataclass(frozen=True)
class Scene:
    """One scene of the demo's archive, from which its photograph is drawn.

    Attributes:
        seed: draws everything that the other fields leave open.
        kind: a name of `KINDS`.
        count: how many things of the kind, 1 to 5.
        place: where it is, one of the kind's places.
        weather: clear, cloudy, night or evening.
    """

    seed: int
    kind: str
    count: int
    place: str
    weather: str

    @classmethod
    def of(cls, seed: int) -> "Scene":
        """Draw what the seed leaves to chance: kind, count, place and weather."""
        rng = np.random.default_rng([seed, 0])
        kind = str(rng.choice(list(KINDS)))
        place, weather = str(rng.choice(KINDS[kind].places)), str(rng.choice(list(_WEATHERS)))
        return cls(seed, kind, int(rng.integers(1, 6)), place, weather)

    def legend(self, language: str) -> str:
        """Make the legend that a newspaper would print below, in one of `LANGUAGES`."""
        index = LANGUAGES.index(language)
        things = KINDS[self.kind].words.counted(self.count, language)
        return f"{things[0].upper()}{things[1:]} {_PLACES[self.place][index]}, {_WEATHERS[self.weather][index]}."

    @cached_property
    def image(self) -> Image.Image:
        """The picture: uint8 RGB, its longer side 420 pixels."""
        rng = np.random.default_rng([self.seed, 1])
        ratio = float(rng.choice([0.75, 1.0, 1.3, 1.4, 1.5]))
        width, height = (420, int(420 / ratio)) if ratio >= 1 else (int(420 * ratio), 420)
        page = _backdrop(self, width * _SCALE, height * _SCALE, rng)
        _place_things(self, page, rng)
        return _grain(page.resize((width, height), Image.Resampling.LANCZOS), rng)


_SKIES = {
    "clear": ((150, 170, 196), (222, 224, 222)),
    "cloudy": ((128, 130, 136), (196, 194, 190)),
    "night": ((40, 42, 60), (104, 104, 124)),
    "evening": ((116, 96, 120), (236, 176, 120)),
}
"""Weather → colour of the sky above and at the horizon, RGB."""
_GROUNDS = {
    "sea": (70, 92, 104),
    "desert": (206, 178, 132),
    "plain": (120, 128, 82),
    "mountains": (112, 110, 92),
    "town": (160, 146, 122),
}
"""Place → colour of the ground, RGB."""


Greys = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
"""Tones of a picture before they are rounded, 0 black to 255 white, or shares, 0 to 1."""


def _noise(rng: np.random.Generator, width: int, height: int, cells: int) -> Greys:
    """Soft noise, 0 to 1, float64 (height, width)."""
    coarse = Image.fromarray((rng.random((max(2, cells * height // width), cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 255


def _backdrop(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Sky, sun or moon, clouds, what stands at the horizon, and the ground."""
    clouded = scene.weather in {"cloudy", "evening"}
    clouds = _noise(rng, width, height, int(rng.integers(3, 9))) if clouded else None
    page = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(page)
    sun = None
    if scene.weather != "cloudy":
        r, x, y = height * rng.uniform(0.04, 0.08), width * rng.uniform(0.1, 0.9), height * rng.uniform(0.08, 0.3)
        sun = (x - r, y - r, x + r, y + r)
    horizon = int(height * rng.uniform(0.45, 0.66))
    page.paste(_sky(scene, width, height, horizon, clouds))
    if sun:
        draw.ellipse(sun, fill=(246, 238, 214))
    _skyline(scene, draw, width, horizon, rng)
    tone = np.array(_GROUNDS[scene.place], dtype=np.float64) * (0.6 if scene.weather == "night" else 1.0)
    rough = _noise(rng, width, height - horizon, int(rng.integers(8, 40)))[..., None]
    ground = tone * (0.7 + 0.5 * rough)
    if scene.place == "sea":
        ground += 14 * np.sin(np.linspace(0, rng.uniform(60, 140), height - horizon))[:, None, None]
    page.paste(_painted(ground), (0, horizon))
    return page


def _sky(scene: Scene, width: int, height: int, horizon: int, clouds: Greys | None) -> Image.Image:
    """The sky of a page above its horizon, with or without clouds."""
    top, bottom = (np.array(tone, dtype=np.float64) for tone in _SKIES[scene.weather])
    ramp = np.linspace(0, 1, height)[:horizon, None, None]
    tones = top * (1 - ramp) + bottom * ramp
    if clouds is None:
        return _painted(tones).resize((width, horizon), Image.Resampling.NEAREST)
    share = np.clip(clouds[:horizon] * 2 - 0.9, 0, 1)[..., None]
    sky = tones * (1 - 0.6 * share)
    sky += 238 * 0.6 * share
    return _painted(sky)


def _painted(tones: Greys) -> Image.Image:
    """A picture of tones, float64 (height, width, 3), which are changed."""
    return Image.fromarray(tones.clip(0, 255, out=tones).astype(np.uint8))


def _skyline(scene: Scene, draw: ImageDraw.ImageDraw, width: int, horizon: int, rng: np.random.Generator) -> None:
    """Draw what stands at the horizon: houses, or hills as high as the place has them."""
    dark = 0.7 if scene.weather == "night" else 1.0
    if scene.place == "town":
        x = 0.0
        while x < width:
            w, h = width * rng.uniform(0.04, 0.1), horizon * rng.uniform(0.08, 0.3)
            tone = int(rng.uniform(120, 190) * dark)
            draw.rectangle((x, horizon - h, x + w, horizon), fill=(tone, tone - 8, tone - 20))
            x += w
        return
    heights = {"mountains": 0.6, "desert": 0.15, "plain": 0.1, "sea": 0.06}
    points = int(rng.integers(5, 11))
    tops = horizon - horizon * heights[scene.place] * rng.uniform(0.1, 1.0, points)
    line = list(zip(np.linspace(0, width, points).tolist(), tops.tolist(), strict=True))
    tone = int(rng.uniform(90, 140) * dark)
    draw.polygon([(0.0, float(horizon)), *line, (float(width), float(horizon))], fill=(tone, tone, tone - 6))


def _place_things(scene: Scene, page: Image.Image, rng: np.random.Generator) -> None:
    """Draw the things side by side on the ground, the near ones larger and over the far ones."""
    kind = KINDS[scene.kind]
    width, height = page.size
    size = min(width, height) * kind.size * rng.uniform(0.75, 1.1) / (1 + 0.12 * scene.count)
    slots = (np.arange(scene.count) + 0.5) / scene.count + rng.uniform(-0.25, 0.25, scene.count) / scene.count
    depths = np.sort(rng.uniform(0.72, 0.94, scene.count))
    draw = ImageDraw.Draw(page)
    for depth, slot in zip(depths, rng.permutation(slots), strict=True):
        kind.brush(draw, width * float(0.06 + 0.88 * slot), height * float(depth), size * float(depth + 0.15), rng)


def _grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give a picture the softness and the grain of a plate, and darker corners."""
    soft = np.array(image.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float64)
    height, width = soft.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    soft *= (1 - 0.18 * (x**2 + y**2) / 2)[..., None]
    soft += rng.normal(0, 5, (height, width))[..., None]
    return _painted(soft)
