"""Who translates: DeepL through its own client, or a Marian model on this machine."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import deepl
import torch

from neardup.errors import QuotaError, TranslationError

TEXTS = 50
BYTES = 120 * 1024
"""DeepL takes 50 texts and 128 KiB a request; a little is left for the other fields and for escaping."""
TARGET = "EN-GB"

logging.getLogger("deepl").setLevel(logging.WARNING)


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into requests within DeepL's limits; a text that is too long alone is in none of them."""
    batch: list[str] = []
    size = 0
    for text in texts:
        # Escaped in JSON a character takes up to 6 bytes for every 2 of its UTF-8.
        length = 3 * len(text.encode())
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
    """DeepL; its client retries 429, 5xx and network faults with growing pauses, and nobody else does."""

    def __init__(self, key: str, *, server_url: str | None = None, glossary: str | None = None) -> None:
        """Take the key (never shown, logged or kept), another address for tests, and a glossary's id."""
        self.name = f"deepl:{glossary}" if glossary else "deepl"
        self._glossary = glossary
        self._client = deepl.DeepLClient(key, server_url=server_url, send_platform_info=False)

    def announce(self, texts: Sequence[str]) -> str:
        """The characters to be billed and what is left of the quota."""
        count = sum(map(len, texts))
        quota = self._ask(self._client.get_usage).character
        left = "no limit" if quota.limit is None else f"{max(0, quota.limit - (quota.count or 0))} are left of the quota"
        return f"DeepL: {len(texts)} distinct texts, {count} characters to be billed; {left}"

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, a request's at a time; see `neardup.translate.Translator`."""
        for batch in batches(texts):
            results = self._ask(
                self._client.translate_text,
                batch,
                source_lang=source.upper(),
                target_lang=TARGET,
                glossary=self._glossary,
            )
            yield [(text, result.text) for text, result in zip(batch, results, strict=True)]

    def _ask(self, call: Any, *args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except deepl.AuthorizationException:
            raise TranslationError("DeepL refuses the key: check DEEPL_AUTH_KEY (a free key ends in :fx)") from None
        except deepl.QuotaExceededException:
            raise QuotaError("the DeepL quota is used up until the month ends or it is raised") from None
        except deepl.TooManyRequestsException:
            raise TranslationError("DeepL is asked too often, also after waiting: run the same command again later") from None
        except deepl.ConnectionException:
            raise TranslationError("DeepL cannot be reached: check the network and run the same command again") from None
        except (deepl.DeepLException, ValueError) as error:
            raise TranslationError(f"DeepL refuses the request ({str(error)[:200]})") from None


class MarianTranslator:
    """A Marian model a language through transformers, for people without DeepL."""

    def __init__(self, pattern: str = "Helsinki-NLP/opus-mt-{source}-en") -> None:
        """Take a hub id or a folder; `{source}` becomes the language's code."""
        self.name = f"marian:{pattern}"
        self._pattern = pattern

    def announce(self, texts: Sequence[str]) -> str:
        """How much there is to do; it costs nothing."""
        return f"Marian: {len(texts)} distinct texts to translate on this machine"

    def translate(self, texts: Sequence[str], source: str) -> Iterator[list[tuple[str, str]]]:
        """Yield (text, English) pairs, 16 at a time; see `neardup.translate.Translator`."""
        model, tokenizer = self._load(source)
        for start in range(0, len(texts), 16):
            batch = list(texts[start : start + 16])
            inputs = tokenizer(batch, return_tensors="pt", padding=True, truncation=True)
            with torch.inference_mode():
                made = model.generate(**inputs, max_new_tokens=256)
            yield list(zip(batch, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True))

    def _load(self, source: str) -> tuple[Any, Any]:
        from transformers import MarianMTModel, MarianTokenizer

        name = self._pattern.format(source=source)
        try:
            model = MarianMTModel.from_pretrained(name)
            return model.eval(), MarianTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise TranslationError(
                f"the model {name} is neither on this machine nor can it be fetched: get it with `hf download {name}` "
                "on a machine with network, or use DeepL",
            ) from error
