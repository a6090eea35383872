"""The pages of the review and the parts that its script puts into them, each filled in from its template."""

from dataclasses import asdict
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from neardup.review.asked.audit import next_aim
from neardup.review.asked.queues import AUDIT, REVIEW, TRUTH, Progress, Task
from neardup.review.page.desk import Desk
from neardup.review.page.payloads import TaskView, shown_progress, shown_task
from neardup.review.texts import KEYS, Words, language_of, texts
from neardup.stages import digest_of

QUEUES = MappingProxyType({"review": REVIEW, "audit": AUDIT, "truth": TRUTH})
"""Address of the page of each queue whose pairs are put before a person one after the other."""
PLACES = ("review", "audit", "groups", "truth", "contradictions", "search")
"""Addresses of the pages between which a person goes, in this order."""
RELATIONS = ("same frame", "crop", "overlapping crops", "mirrored", "rotated", "screened", "retouched", "same scene")
"""What kinds of copy a person may choose from."""
SCRIPT_TEXTS = (
    *("server_gone", "not_saved", "not_saved_one", "nothing_left", "left_elsewhere"),
    *("nothing_to_undo", "undone_what", "searching"),
)
"""Names of the texts that a script of the page shows; all others are filled in by the server."""
NAME_COOKIE = "neardup_who"
"""Cookie that holds the name that a person typed, percent-encoded, so that they need not type it again."""
LONGEST_NAME = 80
"""Most characters of a person's name."""


def words_of(request: Request) -> Words:
    """The words of the language that a request's browser likes best."""
    return Words(language_of(request.headers.get("accept-language", "")))


class Pages:
    """Renders the templates of the pages."""

    def __init__(self, desk: Desk) -> None:
        """Take what the pages show."""
        self._desk = desk
        self._templates = Environment(
            loader=PackageLoader("neardup"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    def page(self, request: Request, template: str, place: str, **values: Any) -> HTMLResponse:
        """A whole page.

        Args:
            request: what it answers; its language is the browser's.
            template: name of the template without its ending.
            place: which of `PLACES` it is; empty for none.
            values: what the template needs, and as `setup` what its script needs.
        """
        words, desk = words_of(request), self._desk
        who = unquote(request.cookies.get(NAME_COOKIE, ""))[:LONGEST_NAME] or desk.who
        setup: dict[str, Any] = {"keys": list(map(asdict, KEYS)), "who": desk.who, **values.pop("setup", {})}
        setup["run"] = desk.results.run
        # What a browser has not sent yet belongs to one database: another folder's page has the same address.
        setup["place"] = digest_of(str(desk.results.out.resolve()), desk.verdicts.place)
        setup["texts"] = {name: texts(words.language)[name] for name in SCRIPT_TEXTS}
        places = [name for name in PLACES if name != "truth" or desk.queues.truth]
        common = {"words": words, "t": texts(words.language), "place": place, "places": places, "who": who}
        common |= {"keys": KEYS, "setup": setup, "relations": RELATIONS}
        html = self._render(template, **common, **values)
        return HTMLResponse(html, headers={"Vary": "Accept-Language, Cookie"})

    def task(self, words: Words, task: Task, queue: str, *, turned: bool = False) -> dict[str, Any]:
        """Make a pair's data for the browser: plain values, and the part of the page that shows it.

        Args:
            words: the browser's.
            task: the pair.
            queue: where it is asked.
            turned: whether its partner is shown first.
        """
        view = TaskView(task, blind=queue == AUDIT, turned=turned)
        html = self._render("review_task", words=words, view=view, alignment=view.alignment)
        alignment = {"onto": view.alignment.onto, "back": view.alignment.back}
        return shown_task(task, queue) | alignment | {"html": html}

    def standing(self, words: Words, progress: Progress) -> dict[str, Any]:
        """How far a queue is, as plain values and as a part of the page."""
        html = self._render("review_standing", words=words, progress=progress, aim=next_aim(progress.audited))
        return {"progress": shown_progress(progress), "html": html, "run": self._desk.results.run}

    def points(self, points: list[tuple[float, ...]]) -> list[str]:
        """The marks of matched points, as parts of the page: those of the photo, then those of its partner."""
        return [
            self._render("review_points", points=[point[first : first + 2] for point in points]) for first in (0, 2)
        ]

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(f"{template}.html.j2").render(**values)
