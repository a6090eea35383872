"""Captions: each distinct legend in English, asked for once in the life of the cache."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from neardup.errors import ConfigError, QuotaError
from neardup.recipes import TranslateSettings
from neardup.stages import STATE, Stage, digest_file, digest_of
from neardup.testset import load_rows, save_rows
from neardup.trainingset import Caption, TrainingSet, write_training_sheet

STEP = 1
"""Bumped when the result changes for equal inputs."""
ENGLISH = "en"
UNTRANSLATED = "untranslated"


class Translator(Protocol):
    """Whoever translates to English."""

    name: str
    """What the cache keeps its translations under; another glossary is another name."""

    def announce(self, texts: Sequence[str]) -> str:
        """What is about to be sent and what it costs, in a sentence."""

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, batch by batch, of texts in the language `source` (ISO 639-1).

        Raises:
            QuotaError: the quota is used up.
            TranslationError: the service refuses or cannot be reached.
        """


@dataclass(frozen=True)
class Translation:
    """What was translated.

    Attributes:
        captions: legend → caption, for every legend.
        stopped: why not all of it was translated and how to go on, or None.
        asked: distinct texts that were sent.
        cached: distinct texts that had been translated before.
    """

    captions: dict[str, Caption]
    stopped: str | None
    asked: int
    cached: int


class Cache:
    """Translations that were paid for, in an SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS translation (translator TEXT, source TEXT, target TEXT, text TEXT, english TEXT, "
                "PRIMARY KEY (translator, source, target, text))",
            )

    def get(self, translator: str, source: str, texts: Iterable[str]) -> dict[str, str]:
        """The texts that were translated before, with their English."""
        wanted = set(texts)
        query = "SELECT text, english FROM translation WHERE translator = ? AND source = ? AND target = ?"
        with closing(sqlite3.connect(self._path)) as database:
            return {text: english for text, english in database.execute(query, (translator, source, ENGLISH)) if text in wanted}

    def put(self, translator: str, source: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep translations; they are on disk when this returns."""
        rows = [(translator, source, ENGLISH, text, english) for text, english in pairs]
        with closing(sqlite3.connect(self._path)) as database, database:
            database.executemany("INSERT OR REPLACE INTO translation VALUES (?, ?, ?, ?, ?)", rows)


def detect_language(text: str, languages: Sequence[str]) -> str:
    """The language of a text among ISO 639-1 codes; nothing if it has no letters.

    Raises:
        ConfigError: a code is unknown.
    """
    if not any(letter.isalpha() for letter in text):
        return ""
    if len(set(languages)) == 1:
        return languages[0]
    found = _detector(tuple(sorted(set(languages)))).detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found else ""


@lru_cache(maxsize=4)
def _detector(languages: tuple[str, ...]) -> LanguageDetector:
    known = {language.iso_code_639_1.name.lower(): language for language in Language.all()}
    unknown = sorted(set(languages) - set(known))
    if unknown:
        raise ConfigError(f"translate.languages: unknown language {', '.join(unknown)}: use ISO 639-1 codes such as fr, en, it, de")
    chosen = [IsoCode639_1.from_str(code.upper()) for code in languages]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*chosen).build()


def translate_legends(
    legends: Iterable[str],
    translator: Translator | None,
    cache: Path,
    languages: Sequence[str],
    report: Callable[[str], None],
) -> Translation:
    """Make a caption for every legend.

    A legend that is English, or has no words, is its own caption. What cannot be translated stays as it is, marked
    `untranslated`. A fault of the service stops translation and keeps what came back.

    Args:
        legends: legends, repeated or not.
        translator: who translates, or None.
        cache: SQLite file of what was translated before.
        languages: ISO 639-1 codes that a legend may be in.
        report: is told what will be sent and what it costs.
    """
    detected = {legend: detect_language(legend, languages) for legend in dict.fromkeys(legends)}
    foreign: defaultdict[str, list[str]] = defaultdict(list)
    for legend, language in detected.items():
        if language not in {ENGLISH, ""}:
            foreign[language].append(legend)
    english: dict[str, str] = {}
    stopped, asked, cached = None, 0, 0
    if translator is not None:
        store = Cache(cache)
        for language, texts in foreign.items():
            english |= store.get(translator.name, language, texts)
        cached = len(english)
        missing = {language: [text for text in texts if text not in english] for language, texts in foreign.items()}
        stopped, asked = _ask(translator, missing, store, english, report)
    elif foreign:
        count = sum(map(len, foreign.values()))
        report(f"{count} legends stay untranslated: set DEEPL_AUTH_KEY to translate them, or say --translator marian")
    name = translator.name.partition(":")[0] if translator else ""
    return Translation(
        {legend: _caption(legend, language, english, name) for legend, language in detected.items()},
        stopped,
        asked,
        cached,
    )


def _caption(legend: str, language: str, english: Mapping[str, str], translator: str) -> Caption:
    if language in {ENGLISH, ""}:
        return Caption(legend, language, "none")
    if legend in english:
        return Caption(english[legend], language, translator)
    return Caption(legend, language, UNTRANSLATED)


def _ask(
    translator: Translator,
    missing: Mapping[str, Sequence[str]],
    store: Cache,
    english: dict[str, str],
    report: Callable[[str], None],
) -> tuple[str | None, int]:
    """Send what is missing; returns why it stopped, if so, and how many texts came back."""
    texts = [text for wanted in missing.values() for text in wanted]
    if not texts:
        return None, 0
    report(translator.announce(texts))
    asked = 0
    try:
        for language, wanted in missing.items():
            for pairs in translator.translate(wanted, language) if wanted else ():
                store.put(translator.name, language, pairs)
                english |= dict(pairs)
                asked += len(pairs)
    except QuotaError as error:
        left = len(texts) - asked
        return f"{error}; {asked} texts were translated and kept, {left} are left: run the same command again to go on", asked
    return None, asked


@dataclass(frozen=True)
class _Row:
    legend: str
    caption: str
    language: str
    translator: str


def translate_training_set(
    out: Path,
    settings: TranslateSettings,
    translator: Translator | None,
    report: Callable[[str], None],
) -> Translation:
    """Translate the legends of a prepared training set into `captions.csv` and `df_training.xlsx`.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
        TranslationError: a wrong key, or a service that cannot be reached; what came back before is kept.
    """
    training = TrainingSet.load(out)
    who = translator.name if translator else None
    stage = Stage(out, "translate", digest_of(STEP, digest_file(out / "training_set.csv"), asdict(settings), who))
    if stage.done():
        report("translate: unchanged, nothing to do")
        return Translation(load_captions(out), None, 0, 0)
    legends = [photo.legend for photo in training.photos]
    made = translate_legends(legends, translator, out / STATE / "translations.db", settings.languages, report)
    rows = [_Row(legend, c.text, c.language, c.translator) for legend, c in made.captions.items()]
    outputs = [save_rows(out / "captions.csv", _Row, rows), write_training_sheet(out, training, made.captions)]
    if made.stopped is None:
        stage.finish(outputs, Counter(caption.translator for caption in made.captions.values()))
    return made


def load_captions(out: Path) -> dict[str, Caption]:
    """Legend → caption, as `translate_training_set` wrote them.

    Raises:
        ArchiveError: nothing has been translated in `out`.
    """
    rows = load_rows(out / "captions.csv")
    return {row["legend"]: Caption(row["caption"], row["language"], row["translator"]) for row in rows}
