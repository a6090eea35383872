"""Translators: DeepL through its own client, or a Marian model on this machine."""

import json
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

import deepl

from neardup.archive.captions import deepl_name
from neardup.errors import QuotaError, TranslationError
from neardup.words import LONGEST_REASON

TEXTS = 50
"""Most texts in one request to DeepL."""
BYTES = 127 * 1024
"""Most bytes of the texts in one request: DeepL accepts 128 KiB, and 1 KiB is left for the other fields."""
TARGET = "EN-GB"
"""DeepL's code of the target language, which must name a variant of English."""

# At DEBUG the client logs every text that is sent.
logging.getLogger("deepl").setLevel(logging.WARNING)


def body_size(text: str) -> int:
    """Count the bytes of a text in a request's body, escaped as JSON, with the comma and space after it."""
    return len(json.dumps(text)) + 2


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Divide texts into requests within DeepL's limits; a text that is too long by itself is left out."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = body_size(text)
        if length > BYTES:
            continue
        if batch and (len(batch) == TEXTS or size + length > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


class DeepLTranslator:
    """Translates by DeepL; only its client retries 429, 5xx and network faults, with growing pauses."""

    def __init__(self, key: str, *, server_url: str | None = None, glossary: str | None = None) -> None:
        """Store the key (never shown, logged or saved), another address for tests, and a glossary's id.

        Raises:
            TranslationError: the key is empty or cannot be one.
        """
        key = key.strip()
        # The HTTP library quotes the whole header, key included, when it refuses one.
        if not key or not key.isascii() or not key.isprintable():
            raise TranslationError("the DeepL key is empty or has characters that no key has: copy it anew")
        self.name = deepl_name(glossary)
        self._glossary = glossary
        self._client = deepl.DeepLClient(key, server_url=server_url, send_platform_info=False)

    def announce(self, texts: Sequence[str]) -> str:
        """Say how many characters will be billed, what is left of the quota, and what cannot be sent."""
        sendable = [text for text in texts if body_size(text) <= BYTES]
        count = sum(map(len, sendable))
        line = f"DeepL: {len(sendable)} distinct texts, {count} characters to be billed; {self._quota(count)}"
        too_long = len(texts) - len(sendable)
        return f"{line}; {too_long} of over 128 KiB cannot be sent and stay untranslated" if too_long else line

    def _quota(self, count: int) -> str:
        used = self._ask(self._client.get_usage).character
        if used.limit is None:
            return "the account has no quota"
        left = max(0, used.limit - (used.count or 0))
        return f"{left} are left of the quota" + (", so not all will be translated" if left < count else "")

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, one request at a time; see `neardup.archive.captions.Translator`."""
        glossary = self._glossary if source in self._glossary_languages else None
        languages = {"source_lang": source.upper(), "target_lang": TARGET}
        for batch in batches(texts):
            results = self._ask(self._client.translate_text, batch, glossary=glossary, **languages)
            if len(results) != len(batch):
                raise TranslationError(
                    f"DeepL was asked for {len(batch)} texts and gave {len(results)}: check translate.server_url, "
                    "and whether a proxy or a login page answers in its place",
                )
            yield [(text, result.text) for text, result in zip(batch, results, strict=True)]

    @cached_property
    def _glossary_languages(self) -> frozenset[str]:
        """Look up the languages that the glossary translates to English; DeepL refuses it for any other."""
        if self._glossary is None:
            return frozenset()
        try:
            description = self._ask(self._client.get_multilingual_glossary, self._glossary)
        except deepl.GlossaryNotFoundException:
            raise TranslationError(f"DeepL has no glossary {self._glossary}: check translate.glossary") from None
        return frozenset(pair.source_lang.lower() for pair in description.dictionaries if pair.target_lang == "EN")

    def _ask(self, call: Any, *args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except deepl.GlossaryNotFoundException:
            raise
        except deepl.AuthorizationException:
            raise TranslationError("DeepL refuses the key: check DEEPL_AUTH_KEY (a free key ends in :fx)") from None
        except deepl.QuotaExceededException:
            raise QuotaError("the DeepL quota is used up until the month ends or it is raised") from None
        except deepl.TooManyRequestsException:
            raise TranslationError("DeepL is asked too often, also after waiting: run again later") from None
        except deepl.ConnectionException:
            raise TranslationError("DeepL cannot be reached: check the network and run again") from None
        except deepl.DeepLException as error:
            if error.should_retry or (error.http_status_code or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise TranslationError("DeepL is out of order, also after waiting: run again later") from None
            raise TranslationError(f"DeepL refuses the request ({self._without_key(error)})") from None
        except (ValueError, TypeError, KeyError) as error:
            raise TranslationError(f"DeepL's answer cannot be read ({self._without_key(error)})") from None

    def _without_key(self, error: Exception) -> str:
        """Return the text of a client's error without the key that it may quote."""
        key = self._client.headers["Authorization"].rpartition(" ")[2]
        return str(error).replace(key, "…")[:LONGEST_REASON]


class MarianTranslator:
    """Translates by one Marian model per language, through transformers, for people without DeepL."""

    def __init__(self, pattern: str = "Helsinki-NLP/opus-mt-{source}-en") -> None:
        """Store a hub id or a folder, in which `{source}` is replaced by the language's code."""
        self.name = pattern
        self._pattern = pattern

    def announce(self, texts: Sequence[str]) -> str:
        """Say how much there is to do, at no cost."""
        return f"Marian: {len(texts)} distinct texts to translate on this machine"

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, 16 at a time; see `neardup.archive.captions.Translator`."""
        import torch  # noqa: PLC0415 - seconds that those who use DeepL need not wait

        model, tokenizer = self._load(source)
        for start in range(0, len(texts), 16):
            batch = list(texts[start : start + 16])
            inputs = tokenizer(batch, return_tensors="pt", padding=True, truncation=True)
            with torch.inference_mode():
                tokens = model.generate(**inputs, max_new_tokens=256)
            yield list(zip(batch, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True))

    def _load(self, source: str) -> tuple[Any, Any]:
        from transformers import MarianMTModel, MarianTokenizer  # noqa: PLC0415 - seconds that those who use DeepL need not wait

        name = self._pattern.replace("{source}", source)
        try:
            model: Any = MarianMTModel.from_pretrained(name)
            tokenizer = MarianTokenizer.from_pretrained(name)
        except (OSError, ValueError, TypeError) as error:  # TypeError: the folder lacks the tokenizer's files
            raise TranslationError(
                f"{name} is not on this machine, whole, nor can it be fetched: get it with `hf download {name}` "
                "on a machine with network, or use DeepL",
            ) from error
        model.eval()
        return model, tokenizer
