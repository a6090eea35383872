"""Captions: each distinct legend in English, translated once in the life of the cache."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from neardup.archive.trainingset import Caption, TrainingSet, write_training_sheet
from neardup.errors import ArchiveError, ConfigError, QuotaError, TranslationError
from neardup.progress import bar
from neardup.settings.schema import TranslateSettings
from neardup.stages import STATE, Stage, digest_file, digest_of, reading
from neardup.tables import load_rows, save_rows
from neardup.words import counted, typed

STEP = 1
"""Version of the translation stage, raised when its result changes for equal inputs."""
ENGLISH = "en"
"""ISO 639-1 code of the language that captions are in."""
UNTRANSLATED = "untranslated"
"""Stands in place of a translator's name for a caption that is the untranslated legend."""


class Translator(Protocol):
    """A service or a model that translates to English."""

    name: str
    """Name under which the cache keeps its translations, followed by a colon and the glossary, if there is one.

    A caption names its translator by the part before the colon, with the language's code in place of `{source}`.
    """

    def announce(self, texts: Sequence[str]) -> str:
        """Say in a sentence what is about to be sent and what it costs."""

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, batch by batch, of texts in the language `source` (ISO 639-1).

        Raises:
            QuotaError: the quota is used up.
            TranslationError: the service refuses or cannot be reached.
        """


@dataclass(frozen=True)
class Translation:
    """The captions of some legends, and how they came about.

    Attributes:
        captions: legend → caption, for every legend.
        stopped: why not every legend was translated and how to continue; None if all were.
        sent: number of distinct texts that were sent.
        cached: number of distinct texts that had been translated before.
    """

    captions: dict[str, Caption]
    stopped: str | None
    sent: int
    cached: int


def deepl_name(glossary: str | None) -> str:
    """Make DeepL's name in the cache, which includes the glossary, as translations depend on it."""
    return f"deepl:{glossary}" if glossary else "deepl"


class Cache:
    """Translations that were paid for, in an SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the cache's file, or create it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS translation "
                "(translator TEXT, source TEXT, target TEXT, text TEXT, english TEXT, "
                "PRIMARY KEY (translator, source, target, text))",
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            advice = (
                "make room on its disk, or wait for the program that uses it, and run the same command again"
                if isinstance(error, sqlite3.OperationalError)
                else "put a backup in its place; without it all is translated, and billed, again"
            )
            raise TranslationError(
                f"{self._path}: the cache of translations cannot be used ({error}): {advice}"
            ) from error

    def get(self, translator: str, source: str, texts: Iterable[str]) -> dict[str, str]:
        """Look up texts that were translated before: text → English."""
        wanted = set(texts)
        query = "SELECT text, english FROM translation WHERE translator = ? AND source = ? AND target = ?"
        with self._open() as database:
            rows = database.execute(query, (translator, source, ENGLISH))
            return {text: english for text, english in rows if text in wanted}

    def put(self, translator: str, source: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Write (text, English) pairs into the cache; they are on disk when this returns."""
        rows = [(translator, source, ENGLISH, text, english) for text, english in pairs]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO translation VALUES (?, ?, ?, ?, ?)", rows)


def detect_language(text: str, languages: Sequence[str]) -> str:
    """Detect a text's language among ISO 639-1 codes; empty if it has no letters, or letters of none of the languages.

    Raises:
        ConfigError: a code is unknown.
    """
    detector = _detector(tuple(sorted(set(languages))))
    if not _has_letters(text):
        return ""
    if len(set(languages)) == 1:
        return languages[0]
    detected = detector.detect_language_of(text)
    return detected.iso_code_639_1.name.lower() if detected else ""


def _has_letters(text: str) -> bool:
    return any(letter.isalpha() for letter in text)


@lru_cache(maxsize=4)
def _detector(languages: tuple[str, ...]) -> LanguageDetector:
    language_of = {language.iso_code_639_1.name.lower(): language for language in Language.all()}
    if not languages:
        raise ConfigError("translate.languages is empty: name the languages of the legends, such as fr, en, it, de")
    unknown = sorted(set(languages) - set(language_of))
    if unknown:
        names = ", ".join(unknown)
        raise ConfigError(f"translate.languages: unknown language {names}: use ISO 639-1 codes such as fr, en, it, de")
    codes = [IsoCode639_1.from_str(code.upper()) for code in languages]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()


def translate_legends(
    legends: Iterable[str],
    translator: Translator | None,
    cache: Path,
    languages: Sequence[str],
    report: Callable[[str], None],
    absent: str = "",
) -> Translation:
    """Make a caption for every legend.

    A legend that is English, or has no words, is its own caption. What cannot be translated stays as it is, marked
    `untranslated`. An exhausted quota stops translation; the captions then hold what came back, and `stopped` says how
    to continue.

    Args:
        legends: legends, repeated or not.
        translator: the translator, or None.
        cache: SQLite file of earlier translations.
        languages: ISO 639-1 codes that a legend may be in.
        report: called with what will be sent and what it costs.
        absent: without a translator, the name of one whose earlier translations are used.

    Raises:
        ConfigError: a language code is unknown.
        TranslationError: the service refuses or cannot be reached; what came back before is in the cache.
    """
    detected = {legend: detect_language(legend, languages) for legend in dict.fromkeys(legends)}
    foreign: defaultdict[str, list[str]] = defaultdict(list)
    for legend, language in detected.items():
        if language not in {ENGLISH, ""}:
            foreign[language].append(legend)
    english: dict[str, str] = {}
    stopped, sent, full_name = None, 0, translator.name if translator else absent
    if full_name and (translator or cache.is_file()):
        store = Cache(cache)
        for language, texts in foreign.items():
            english |= store.get(full_name, language, texts)
    cached = len(english)
    missing = {language: [text for text in texts if text not in english] for language, texts in foreign.items()}
    if translator is not None:
        stopped, sent = _translate_missing(translator, missing, store, english, report)
    elif count := sum(map(len, missing.values())):
        report(
            f"{counted(count, 'legend')} {'stays' if count == 1 else 'stay'} untranslated, for nobody translates: "
            "set DEEPL_AUTH_KEY for DeepL, or say --translator marian",
        )
    name = full_name.partition(":")[0]
    captions = {
        legend: _caption(legend, language, english.get(legend, ""), name.replace("{source}", language))
        for legend, language in detected.items()
    }
    return Translation(captions, stopped, sent, cached)


def _caption(legend: str, language: str, english: str, translator: str) -> Caption:
    if language == ENGLISH or not _has_letters(legend):
        return Caption(legend, language, "none")
    if english.strip():
        return Caption(english, language, translator)
    return Caption(legend, language, UNTRANSLATED)


def _translate_missing(
    translator: Translator,
    missing: Mapping[str, Sequence[str]],
    store: Cache,
    english: dict[str, str],
    report: Callable[[str], None],
) -> tuple[str | None, int]:
    """Translate the texts that the cache lacks, and add them to the cache and to `english`.

    Args:
        translator: the translator.
        missing: language → texts.
        store: the cache.
        english: text → translation; new translations are added.
        report: called with what will be sent and what it costs.

    Returns:
        Why not all was translated, or None; and how many texts came back.
    """
    texts = [text for wanted in missing.values() for text in wanted]
    if not texts:
        return None, 0
    report(translator.announce(texts))
    sent = 0
    try:
        with bar(total=len(texts), desc="translate", unit="legend", disable=None) as progress:
            for language, wanted in missing.items():
                for pairs in translator.translate(wanted, language) if wanted else ():
                    store.put(translator.name, language, pairs)
                    english |= dict(pairs)
                    sent += len(pairs)
                    progress.update(len(pairs))
    except QuotaError as error:
        remaining = len(texts) - sent
        back = f"{counted(sent, 'text')} came back and {'is' if sent == 1 else 'are'} kept"
        return f"{error}; {back}, {remaining} {'is' if remaining == 1 else 'are'} left: run again then to go on", sent
    return None, sent


@dataclass(frozen=True)
class _Row:
    """A row of `captions.csv`: a legend, and its caption with language and translator."""

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
        TranslationError: the key is wrong or the service cannot be reached; what came back before is kept.
    """
    training = TrainingSet.load(out)
    translator_name = translator.name if translator else None
    stage = Stage(
        out, "translate", digest_of(STEP, digest_file(out / "training_set.csv"), asdict(settings), translator_name)
    )
    if stage.done():
        report("translate: unchanged, nothing to do")
        return Translation(load_captions(out), None, 0, 0)
    legends = [photo.legend for photo in training.photos]
    absent = deepl_name(settings.glossary) if settings.translator == "deepl" else ""
    cache = out / STATE / "translations.db"
    result = translate_legends(legends, translator, cache, settings.languages, report, absent)
    rows = [_Row(legend, c.text, c.language, c.translator) for legend, c in result.captions.items()]
    outputs = [save_rows(out / "captions.csv", _Row, rows), write_training_sheet(out, training, result.captions)]
    if result.stopped is None:
        stage.finish(outputs, Counter(caption.translator for caption in result.captions.values()))
    return result


def load_captions(out: Path) -> dict[str, Caption]:
    """Read the captions that `translate_training_set` wrote: legend → caption.

    Raises:
        ArchiveError: nothing has been translated in `out`.
    """
    if not (out / "captions.csv").is_file():
        raise ArchiveError(f"{out} has no captions.csv: run `neardup translate --out {typed(out)}` first")
    with reading(out / "captions.csv", f"run `neardup translate --out {typed(out)}` again"):
        rows = load_rows(out / "captions.csv")
        return {row["legend"]: Caption(row["caption"], row["language"], row["translator"]) for row in rows}
