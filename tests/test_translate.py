"""Captions, made by the real DeepL client against a server on this machine that answers as DeepL does."""

import csv
import json
import logging
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import deepl
import openpyxl
import pytest
import sentencepiece
import torch
from deepl_server import GLOSSARY, KEY, LIMIT, DeepL, deepl_server
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from neardup.archive.captions import (
    Translation,
    detect_language,
    load_captions,
    translate_legends,
    translate_training_set,
)
from neardup.archive.trainingset import Caption, TrainingPhoto, TrainingSet
from neardup.archive.translators import DeepLTranslator, MarianTranslator, batches
from neardup.errors import ArchiveError, ConfigError, NeardupError, TranslationError
from neardup.settings.schema import TranslateSettings
from neardup.stages import STATE

LANGUAGES = ("fr", "en", "it", "de")
FRENCH = "Des soldats italiens débarquent à Tripoli"
ITALIAN = "I soldati italiani sbarcano a Tripoli"
GERMAN = "Deutsche Soldaten marschieren durch die Stadt"
ENGLISH = "Italian soldiers go ashore in the harbour"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeepL]:
    """A DeepL on this machine; its client waits milliseconds where it would wait seconds."""
    monkeypatch.setattr(deepl.http_client._BackoffTimer, "BACKOFF_INITIAL", 0.005)
    with deepl_server() as running:
        yield running


def translator(server: DeepL, key: str = KEY, glossary: str | None = None) -> DeepLTranslator:
    """The real client, pointed at the server."""
    return DeepLTranslator(key, server_url=server.url, glossary=glossary)


def translate(legends: list[str], server: DeepL, folder: Path, glossary: str | None = None) -> Translation:
    """Translate with a cache in the folder, telling nobody."""
    return translate_legends(legends, translator(server, glossary=glossary), folder / "c.db", LANGUAGES, lambda _: None)


def french(count: int) -> list[str]:
    """So many distinct French legends."""
    return [f"Les soldats du régiment numéro {number} défilent dans la rue" for number in range(count)]


def training_set(out: Path, legends: list[str]) -> TrainingSet:
    """A prepared training set in `out`, a photo a legend."""
    photos = [
        TrainingPhoto(
            f"{i}.jpg", f"a/{i}.jpg", f"{i:064x}", legend, "a", "a/a.xlsx", "S", i + 2, "1", str(i), "0" * 16, "0" * 16
        )
        for i, legend in enumerate(legends)
    ]
    training = TrainingSet(tuple(photos))
    training.save(out)
    return training


@pytest.mark.parametrize(
    ("text", "language"),
    [(FRENCH, "fr"), (ITALIAN, "it"), (GERMAN, "de"), (ENGLISH, "en"), ("LE ROI À PARIS", "fr"), ("The king", "en")],
)
def test_language_of_a_short_legend(text: str, language: str) -> None:
    """The language is found among those that the archive has, also in a few words and in capitals."""
    assert detect_language(text, LANGUAGES) == language


@pytest.mark.parametrize("text", ["", "12 (3)", "— … —", "Верден"])
def test_no_language(text: str) -> None:
    """A text without letters, or with those of another script, has no language."""
    assert detect_language(text, LANGUAGES) == ""


@pytest.mark.parametrize("languages", [("fr", "xx"), ("xx",), ()])
def test_unknown_language(languages: tuple[str, ...]) -> None:
    """A code that is none is named, and so is an empty list."""
    with pytest.raises(ConfigError, match=r"translate\.languages"):
        detect_language(FRENCH, languages)


def test_captions(server: DeepL, tmp_path: Path) -> None:
    """Each legend gets its English, its language and who translated; English and numbers stand for themselves."""
    captions = translate([FRENCH, ITALIAN, ENGLISH, "12 (3)", "Верден"], server, tmp_path).captions
    assert captions == {
        FRENCH: Caption(f"[FR] {FRENCH}", "fr", "deepl"),
        ITALIAN: Caption(f"[IT] {ITALIAN}", "it", "deepl"),
        ENGLISH: Caption(ENGLISH, "en", "none"),
        "12 (3)": Caption("12 (3)", "", "none"),
        "Верден": Caption("Верден", "", "untranslated"),
    }


def test_each_text_is_sent_once(server: DeepL, tmp_path: Path) -> None:
    """Photos that share a legend share its translation."""
    translate([FRENCH, FRENCH, ITALIAN, FRENCH], server, tmp_path)
    assert sorted(server.texts) == sorted([FRENCH, ITALIAN])


def test_rerun_asks_for_nothing(server: DeepL, tmp_path: Path) -> None:
    """What is in the cache is not asked for again, and the captions are the same."""
    first = translate([FRENCH, ITALIAN], server, tmp_path)
    second = translate([FRENCH, ITALIAN], server, tmp_path)
    assert (second.captions, second.sent, second.cached) == (first.captions, 0, 2)
    assert len(server.texts) == 2


def test_another_glossary_asks_anew(server: DeepL, tmp_path: Path) -> None:
    """A translation made without the glossary does not stand for one made with it."""
    translate([FRENCH], server, tmp_path)
    captions = translate([FRENCH], server, tmp_path, glossary=GLOSSARY).captions
    assert captions[FRENCH] == Caption("[FR] Des soldats italiens débarquent à Tarabulus", "fr", "deepl")


def test_glossary_only_for_its_languages(server: DeepL, tmp_path: Path) -> None:
    """DeepL refuses a French glossary for Italian, so that one is translated without."""
    captions = translate([FRENCH, ITALIAN], server, tmp_path, glossary=GLOSSARY).captions
    assert captions[ITALIAN].text == f"[IT] {ITALIAN}"


def test_unknown_glossary(server: DeepL, tmp_path: Path) -> None:
    """A glossary that there is not is one sentence that names the setting."""
    with pytest.raises(TranslationError, match=r"no glossary lost: check translate\.glossary"):
        translate([FRENCH], server, tmp_path, glossary="lost")


def test_requests_of_fifty_texts(server: DeepL, tmp_path: Path) -> None:
    """120 texts are three requests."""
    translate(french(120), server, tmp_path)
    assert [len(request["text"]) for request in server.requests] == [50, 50, 20]


@pytest.mark.parametrize("letters", ["abc ", "é« »", '"\\\n', "戦争\U0001f5bc"])
def test_requests_of_128_kib(letters: str) -> None:
    """No request's body is over the limit, whatever its characters become in JSON; no text is lost."""
    texts = [f"{number} " + letters * 1500 for number in range(40)]
    made = list(batches(texts))
    assert [text for batch in made for text in batch] == texts
    assert max(len(json.dumps({"text": batch})) for batch in made) <= LIMIT - 512


def test_text_over_the_limit(server: DeepL, tmp_path: Path) -> None:
    """A text that no request can hold stays untranslated and is told; the others are translated."""
    said: list[str] = []
    long = "Les soldats défilent dans la rue. " * 5000
    cache = tmp_path / "c.db"
    captions = translate_legends([long, FRENCH], translator(server), cache, LANGUAGES, said.append).captions
    assert (captions[long].translator, captions[FRENCH].translator) == ("untranslated", "deepl")
    assert "1 of over 128 KiB cannot be sent" in said[0]


def test_cost_is_said_first(server: DeepL, tmp_path: Path) -> None:
    """Before anything is sent, the characters to be billed and what is left of the quota are told."""
    said: list[str] = []

    def report(sentence: str) -> None:
        assert server.requests == []
        said.append(sentence)

    server.quota, server.used = 1000, 200
    translate_legends([FRENCH, FRENCH], translator(server), tmp_path / "c.db", LANGUAGES, report)
    billed = f"{len(FRENCH)} characters to be billed; 800 are left of the quota"
    assert said == [f"DeepL: 1 distinct texts, {billed}"]


def test_quota_that_will_not_do_is_said_first(server: DeepL) -> None:
    """A quota too small for what is to be sent is known before it is."""
    server.quota = 10
    assert translator(server).announce([FRENCH]).endswith("10 are left of the quota, so not all will be translated")


def test_quota_used_up(server: DeepL, tmp_path: Path) -> None:
    """What came back is kept and marked, the rest stays as it is, and the sentence says how to go on."""
    legends = french(120)
    server.quota = sum(map(len, legends[:100]))
    made = translate(legends, server, tmp_path)
    assert [made.captions[legend].translator for legend in legends] == ["deepl"] * 100 + ["untranslated"] * 20
    assert made.stopped is not None
    assert "100 texts came back and are kept, 20 are left: run again" in made.stopped


def test_goes_on_after_the_quota(server: DeepL, tmp_path: Path) -> None:
    """With a new quota only what is missing is asked for."""
    legends = french(120)
    server.quota = sum(map(len, legends[:100]))
    translate(legends, server, tmp_path)
    server.quota, server.requests = 10**6, []
    made = translate(legends, server, tmp_path)
    assert (server.texts, made.stopped, made.cached) == (legends[100:], None, 100)


@pytest.mark.parametrize("faults", [[429], [503, 503], [0], [500, 429, 0]])
def test_faults_that_pass(server: DeepL, tmp_path: Path, faults: list[int]) -> None:
    """Too many requests, a server out of order and a dropped connection are tried again until they pass."""
    tries = len(faults) + 1
    server.faults = list(faults)
    assert translate([FRENCH], server, tmp_path).captions[FRENCH].translator == "deepl"
    assert len(server.requests) == tries


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(429, "asked too often"), (503, "out of order"), (500, "out of order"), (0, "cannot be reached")],
)
def test_faults_that_stay(server: DeepL, tmp_path: Path, fault: int, sentence: str) -> None:
    """One layer alone tries again, six times in all, and ends with one sentence."""
    server.faults = [fault] * 1000
    with pytest.raises(TranslationError, match=sentence):
        translate([FRENCH], server, tmp_path)
    assert len(server.requests) == deepl.http_client.max_network_retries + 1


def test_kept_when_the_server_goes_away(server: DeepL, tmp_path: Path) -> None:
    """A server that fails halfway loses nothing of what it gave before."""
    server.faults = [200, *[503] * 6]
    with pytest.raises(TranslationError):
        translate(french(60), server, tmp_path)
    made = translate(french(60), server, tmp_path)
    assert (made.cached, made.sent) == (50, 10)


def test_kept_when_killed(server: DeepL, tmp_path: Path) -> None:
    """A run killed with -9 while it waits for an answer goes on with what it had not got."""
    server.faults = [200, *[503] * 6]
    script = (
        "import sys; from pathlib import Path; "
        "from neardup.archive.captions import translate_legends; "
        "from neardup.archive.translators import DeepLTranslator; "
        "key, url, cache, *legends = sys.argv[1:]; "
        "translate_legends(legends, DeepLTranslator(key, server_url=url), Path(cache), ('fr', 'en'), print)"
    )
    arguments = [KEY, server.url, str(tmp_path / "c.db"), *french(60)]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL) as run:
        while len(server.requests) < 2 and run.poll() is None:
            time.sleep(0.01)
        run.kill()
    server.faults = []
    made = translate(french(60), server, tmp_path)
    assert (run.returncode, made.cached, made.sent) == (-signal.SIGKILL, 50, 10)


def test_answer_of_a_login_page(server: DeepL, tmp_path: Path) -> None:
    """A page that answers in DeepL's place is told, and nothing of it is kept."""
    server.garbled = True
    with pytest.raises(TranslationError, match="asked for 1 texts and gave 0"):
        translate([FRENCH], server, tmp_path)
    server.garbled = False
    assert translate([FRENCH], server, tmp_path).sent == 1


def test_wrong_key(server: DeepL, tmp_path: Path) -> None:
    """A wrong key is one sentence."""
    wrong = translator(server, key="not-the-key")
    with pytest.raises(TranslationError, match=r"DeepL refuses the key: check DEEPL_AUTH_KEY"):
        translate_legends([FRENCH], wrong, tmp_path / "c.db", LANGUAGES, lambda _: None)


@pytest.mark.parametrize("key", ["", "  \n", "a\nb", "clé", "a\x00b"])
def test_what_is_no_key(key: str) -> None:
    """A key that cannot be one is refused before anything is sent, without being shown."""
    with pytest.raises(TranslationError, match="the DeepL key is empty or has characters") as caught:
        DeepLTranslator(key)
    assert not key.strip() or key not in str(caught.value)


def test_key_with_a_line_break_at_its_end(server: DeepL, tmp_path: Path) -> None:
    """A key read from a file with its line break works."""
    made = translate_legends([FRENCH], translator(server, f"{KEY}\n"), tmp_path / "c.db", LANGUAGES, lambda _: None)
    assert made.captions[FRENCH].translator == "deepl"


@pytest.mark.parametrize("fault", [400, 403, 429, 456, 503, 0])
def test_key_is_never_shown(server: DeepL, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: int) -> None:
    """The key is in no error, no traceback, no log, no repr and not in the cache."""
    caplog.set_level(logging.DEBUG)
    server.faults = [fault] * 6
    said: list[str] = []
    client = translator(server)
    try:
        made = translate_legends([FRENCH], client, tmp_path / "c.db", LANGUAGES, said.append)
        said.append(str(made))
    except NeardupError as error:
        said += traceback.format_exception(error)
    everything = "\n".join([*said, caplog.text, repr(client), str((tmp_path / "c.db").read_bytes())])
    assert KEY not in everything
    assert "DeepL-Auth-Key" not in everything


def test_damaged_cache(server: DeepL, tmp_path: Path) -> None:
    """A cache that is no database is one sentence with its path."""
    (tmp_path / "c.db").write_text("this is not a database, and long enough to be seen as none" * 20)
    with pytest.raises(TranslationError, match=r"c\.db: the cache of translations cannot be used"):
        translate([FRENCH], server, tmp_path)


def test_without_a_translator(tmp_path: Path) -> None:
    """Legends stay as they are, marked untranslated, and the run says so once."""
    said: list[str] = []
    made = translate_legends([FRENCH, ITALIAN, ENGLISH], None, tmp_path / "c.db", LANGUAGES, said.append)
    assert made.captions[FRENCH] == Caption(FRENCH, "fr", "untranslated")
    assert made.captions[ENGLISH] == Caption(ENGLISH, "en", "none")
    assert len(said) == 1
    assert said[0].startswith("2 legends stay untranslated, for nobody translates: set DEEPL_AUTH_KEY")


def test_what_was_paid_for_is_taken_without_a_key(server: DeepL, tmp_path: Path) -> None:
    """A night without the key changes no caption, and so trains nothing anew; another glossary's is not taken."""
    training_set(tmp_path, [FRENCH])
    made = translate_training_set(tmp_path, TranslateSettings(), translator(server), lambda _: None)
    said: list[str] = []
    again = translate_training_set(tmp_path, TranslateSettings(), None, said.append)
    assert (again.captions, again.cached, said) == (made.captions, 1, [])
    other = translate_training_set(tmp_path, TranslateSettings(glossary="g"), None, said.append)
    assert other.captions[FRENCH].translator == "untranslated"
    assert translate_training_set(tmp_path, TranslateSettings(translator="none"), None, said.append).cached == 0


def test_stage_writes_both_tables(server: DeepL, tmp_path: Path) -> None:
    """`captions.csv` has a row a legend and `df_training.xlsx` a row a photo, original beside caption."""
    training_set(tmp_path, [FRENCH, FRENCH, '=1+1, a "quoted" sum'])
    made = translate_training_set(tmp_path, TranslateSettings(), translator(server), lambda _: None)
    with (tmp_path / "captions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"legend": FRENCH, "caption": f"[FR] {FRENCH}", "language": "fr", "translator": "deepl"}
    assert load_captions(tmp_path) == made.captions
    sheet = openpyxl.load_workbook(tmp_path / "df_training.xlsx").active
    table = [row[1:5] for row in sheet.iter_rows(min_row=2, values_only=True)]
    assert table[:2] == [(FRENCH, f"[FR] {FRENCH}", "fr", "deepl")] * 2
    assert sheet["B4"].data_type == "s"


@pytest.mark.parametrize("legend", ["=1+1 soldiers", "+ soldiers", "-1 soldier", "@king", "'king'"])
def test_captions_are_no_formulas_in_a_csv(tmp_path: Path, legend: str) -> None:
    """A spreadsheet that opens `captions.csv` sees text in both columns."""
    training_set(tmp_path, [legend])
    translate_training_set(tmp_path, TranslateSettings(translator="none"), None, lambda _: None)
    assert (tmp_path / "captions.csv").read_text(encoding="utf-8").splitlines()[1].startswith(f"'{legend},'{legend},")


@pytest.mark.parametrize("legend", ["two\nlines", "carriage\r\nreturn", 'a "b", c', "NA", "", " spaces "])
def test_captions_come_back_as_they_were(tmp_path: Path, legend: str) -> None:
    """Line breaks, quotes and words that look like missing values survive the table."""
    training_set(tmp_path, [legend])
    made = translate_training_set(tmp_path, TranslateSettings(translator="none"), None, lambda _: None)
    assert list(load_captions(tmp_path)) == [legend]
    assert load_captions(tmp_path) == made.captions


def test_unchanged_stage_does_nothing(server: DeepL, tmp_path: Path) -> None:
    """A second run of an unchanged stage says so, asks for nothing and gives the same captions."""
    training_set(tmp_path, [FRENCH])
    first = translate_training_set(tmp_path, TranslateSettings(), translator(server), lambda _: None)
    (tmp_path / STATE / "translations.db").unlink()
    said: list[str] = []
    second = translate_training_set(tmp_path, TranslateSettings(), translator(server), said.append)
    assert (second.captions, len(server.requests)) == (first.captions, 1)
    assert said == ["translate: unchanged, nothing to do"]


def test_other_languages_are_another_stage(tmp_path: Path) -> None:
    """A legend is told from other languages then."""
    training_set(tmp_path, [FRENCH])
    languages = ("fr", "en"), ("en",)
    found = [
        translate_training_set(tmp_path, TranslateSettings(languages=these), None, lambda _: None).captions[FRENCH]
        for these in languages
    ]
    assert [caption.language for caption in found] == ["fr", "en"]


def test_stage_goes_on_after_the_quota(server: DeepL, tmp_path: Path) -> None:
    """A stage that the quota stopped has tables to work with, is not done, and ends as if it had not been stopped."""
    legends = french(60)
    training_set(tmp_path, legends)
    server.quota = sum(map(len, legends[:50]))
    stopped = translate_training_set(tmp_path, TranslateSettings(), translator(server), lambda _: None)
    assert stopped.stopped
    assert load_captions(tmp_path) == stopped.captions
    server.quota = 10**6
    done = translate_training_set(tmp_path, TranslateSettings(), translator(server), lambda _: None)
    assert (done.stopped, len(server.texts)) == (None, 70)
    assert {caption.translator for caption in load_captions(tmp_path).values()} == {"deepl"}


def test_key_that_comes_later(server: DeepL, tmp_path: Path) -> None:
    """A run without a key is done; with a key the legends are translated after all."""
    training_set(tmp_path, [FRENCH])
    settings = TranslateSettings()
    translate_training_set(tmp_path, settings, None, lambda _: None)
    made = translate_training_set(tmp_path, settings, translator(server), lambda _: None)
    assert made.captions[FRENCH].translator == "deepl"


def test_nothing_translated_yet(tmp_path: Path) -> None:
    """A folder without captions says which command makes them."""
    with pytest.raises(ArchiveError, match="neardup translate --out"):
        load_captions(tmp_path)


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian model of random weights for French, a folder as the hub has it; its pattern is `…/opus-{source}-en`."""
    folder = tmp_path_factory.mktemp("marian")
    (folder / "legends.txt").write_text("\n".join([FRENCH, *french(20)]), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "legends.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    words = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    model = folder / "opus-fr-en"
    spm = str(folder / "pieces.model")
    MarianTokenizer(source_spm=spm, target_spm=spm, vocab=str(folder / "vocab.json")).save_pretrained(model)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=len(words) - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        decoder_start_token_id=len(words) - 1,
    )
    MarianMTModel(config).save_pretrained(model)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_translates_and_is_cached(marian: Path, tmp_path: Path) -> None:
    """A model in a folder translates by the real loading path, is named in the caption and is asked once."""
    local = MarianTranslator(str(marian / "opus-{source}-en"))
    first = translate_legends([FRENCH, *french(3)], local, tmp_path / "c.db", LANGUAGES, lambda _: None)
    again = translate_legends([FRENCH, *french(3)], local, tmp_path / "c.db", LANGUAGES, lambda _: None)
    caption = first.captions[FRENCH]
    assert (caption.language, caption.translator) == ("fr", str(marian / "opus-fr-en"))
    assert caption.text not in {"", FRENCH}
    assert (again.captions, again.sent, again.cached) == (first.captions, 0, 4)


def test_marian_model_that_is_not_there(tmp_path: Path) -> None:
    """A model that is missing is one sentence that says how to get it."""
    missing = MarianTranslator(str(tmp_path / "opus-{source}-en"))
    with pytest.raises(TranslationError, match=r"opus-fr-en is not on this machine.*get it with"):
        translate_legends([FRENCH], missing, tmp_path / "c.db", LANGUAGES, lambda _: None)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_folder_without_its_tokenizer(marian: Path, tmp_path: Path) -> None:
    """A folder that was copied in part is one sentence too."""
    (tmp_path / "opus-fr-en").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.json"):
        (tmp_path / "opus-fr-en" / name).write_bytes((marian / "opus-fr-en" / name).read_bytes())
    with pytest.raises(TranslationError, match="not on this machine, whole"):
        list(MarianTranslator(str(tmp_path / "opus-{source}-en")).translate([FRENCH], "fr"))
