"""The JSON API of the review page: the next pairs, verdicts, undo, groups, the search."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from neardup.errors import ArchiveError, VerdictError
from neardup.review.asked.queues import AUDIT, REVIEW, TRUTH
from neardup.review.page.desk import Desk
from neardup.review.page.pages import LONGEST_NAME, Pages, words_of
from neardup.review.page.payloads import shown_points, shown_with
from neardup.review.page.searches import Searches
from neardup.review.page.security import UPLOAD
from neardup.review.record.verdicts import Verdict

AHEAD = 4
"""Pairs that a browser gets at once: the one that is shown, and the next three, whose pictures it decodes ahead."""

UNDONE = 40
"""Changes of a group that can be undone one after the other; their ids stand in the page's address."""

Who = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME)]
"""A person's name, without outer spaces."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of a photo."""
Name = Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")]
"""The id of a verdict or of a browser's session, which the browser chooses."""


class Body(BaseModel):
    """Base of the bodies that a browser sends; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(Body):
    """A verdict as a browser sends it."""

    id: Name
    photo: Digest
    partner: Digest
    verdict: Literal["same", "same scene", "different", "cannot tell"]
    who: Who
    queue: Literal["review", "audit", "group", "ground truth", "pair", "search"]
    relation: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    direction: Literal["", "first", "second"] = ""
    note: Annotated[str, Field(max_length=4000)] = ""
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    supersedes: Annotated[list[Name], Field(max_length=100)] = []


class Undo(Body):
    """Verdicts that somebody takes back."""

    ids: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    who: Who


class Skip(Body):
    """A pair that somebody puts off."""

    session: Name
    number: int


class Unshown(Body):
    """A pair whose pictures a browser did not get; its number is none where it is of no queue."""

    session: Name
    number: int | None
    photo: Digest
    partner: Digest


class Leave(Body):
    """A browser's window that is closed, or shows another page."""

    session: Name


class Change(Body):
    """What the form of a group's page holds.

    Attributes:
        photos: those that are meant.
        other: number of another group; 0 for none.
        grouping: which groups the numbers mean, as `Groups.grouping` says when the page is made.
        undo: ids of the changes that were made on the page, the last one at the end, parted by points.
        who: the person.
    """

    photos: Annotated[list[Digest], Field(max_length=10_000)] = []
    other: int = 0
    grouping: Annotated[str, Field(max_length=64)] = ""
    undo: Annotated[str, Field(pattern=r"^[0-9a-f.]{0,1600}$")] = ""
    who: Who


def add_api(app: FastAPI, desk: Desk, pages: Pages, searches: Searches) -> None:
    """Add all routes of the API."""
    _add_tasks(app, desk, pages)
    _add_verdicts(app, desk, pages)
    _add_groups(app, desk)
    _add_search(app, desk, searches)


def _add_tasks(app: FastAPI, desk: Desk, pages: Pages) -> None:
    """Hand out pairs."""

    @app.get("/api/tasks")
    def tasks(
        request: Request,
        queue: Literal["review", "audit", "group", "ground truth"],
        session: Annotated[str, Query(pattern=r"^[\w.:-]{1,64}$")],
        who: Annotated[str, Query(max_length=LONGEST_NAME)] = "",
        group: int = 0,
        but: Annotated[str, Query(pattern=r"^[\d,]*$", max_length=400)] = "",
        held: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        desk.queues.refresh()
        have = [int(number) for number in but.split(",") if number]
        taken = desk.queues.take(queue, session, AHEAD - held, group=group, but=have)
        desk.pictures.warm(photo.sha256 for task in taken for photo in (task.pair.photo, task.pair.partner))
        words, progress = words_of(request), desk.queues.progress(queue, who or desk.who, group)
        unreadable = 0 if taken or have else desk.queues.unreadable(queue, session, group)
        if unreadable:
            desk.pictures.check()
        shown = {"tasks": [pages.task(words, task, queue) for task in taken], **pages.standing(words, progress)}
        return shown | {"unreadable": words.say("unreadable", n=unreadable) if unreadable else ""}

    @app.get("/api/pair/{photo}/{partner}")
    def pair(
        request: Request, photo: str, partner: str, queue: str = REVIEW, *, turned: bool = False
    ) -> dict[str, Any]:
        desk.queues.refresh()
        words, progress = words_of(request), desk.queues.progress(REVIEW, desk.who)
        task = pages.task(words, desk.queues.task_of(photo, partner, queue), queue, turned=turned)
        return {"tasks": [task], **pages.standing(words, progress)}

    @app.get("/api/points/{photo}/{partner}")
    def points(photo: str, partner: str) -> dict[str, Any]:
        evidence = desk.results.evidence(photo, partner)
        if evidence is None or not evidence.matched:
            return {"html": ["", ""]}
        matched = desk.pictures.matched_points(evidence.first, evidence.second)
        return {"html": pages.points(shown_points(matched, evidence, photo))}

    @app.post("/api/skip")
    def skip(body: Skip) -> dict[str, Any]:
        desk.queues.skip(body.session, body.number)
        return {}

    @app.post("/api/unshown")
    def unshown(body: Unshown) -> dict[str, Any]:
        fault = desk.pictures.fault(body.photo, body.partner)
        if fault and body.number is not None:
            desk.queues.skip(body.session, body.number, broken=True)
        return {"fault": fault}

    @app.post("/api/leave")
    def leave(body: Leave) -> dict[str, Any]:
        desk.queues.leave(body.session)
        return {}


def _shown(desk: Desk, photo: str, partner: str, queue: str) -> dict[str, Any]:
    """What is kept with a verdict of what was known of the pair; nothing where a photo is none of the results."""
    try:
        task = desk.queues.task_of(photo, partner, queue)
    except ArchiveError:
        return {}
    return shown_with(task, desk.results, queue, desk.queues.drawn if queue == AUDIT else None)


def _add_verdicts(app: FastAPI, desk: Desk, pages: Pages) -> None:
    """Take verdicts, and take them back."""

    @app.post("/api/verdict")
    def verdict(body: Answer) -> dict[str, Any]:
        answered = Verdict.of(
            body.photo,
            body.partner,
            body.verdict,
            who=body.who,
            queue=body.queue if body.queue in {AUDIT, TRUTH, "search"} else REVIEW,
            direction=body.direction,
            relation=body.relation,
            note=body.note,
            seconds=body.seconds,
            supersedes=tuple(body.supersedes),
            shown=_shown(desk, body.photo, body.partner, body.queue),
            id=body.id,
        )
        return {"new": desk.verdicts.add(answered)}

    @app.post("/api/undo")
    def undo(request: Request, body: Undo) -> dict[str, Any]:
        withdrawn = []
        for identity in body.ids:
            earlier = desk.verdicts.get(identity)
            if earlier is None:
                raise VerdictError("that verdict was not stored: there is nothing to take back")
            desk.verdicts.withdraw(identity, body.who)
            withdrawn.append(earlier)
        desk.queues.refresh()
        queue = withdrawn[-1].queue
        try:
            task = pages.task(words_of(request), desk.queues.task_of(*withdrawn[-1].pair, queue), queue)
        except ArchiveError:
            task = None
        return {"task": task, "queue": queue}


def _add_groups(app: FastAPI, desk: Desk) -> None:
    """Change groups, each change a verdict or several; the answer says what the address of the page is to hold then."""

    def changed(body: Change, verdicts: Sequence[Verdict], done: str) -> dict[str, str]:
        """Store the verdicts of one change under ids by which it is undone."""
        change = uuid4().hex
        complete = [
            replace(verdict, id=f"{change}:{n}", shown=_shown(desk, *verdict.pair, REVIEW))
            for n, verdict in enumerate(verdicts)
        ]
        desk.verdicts.add_all(complete)
        return {"done": done, "undo": ".".join([*filter(None, body.undo.split(".")), change][-UNDONE:])}

    def check_numbers(request: Request, body: Change) -> None:
        """Refuse a page whose numbers mean other groups by now, as after another run of `duplicates`."""
        if body.grouping != desk.groups.grouping:
            raise VerdictError(words_of(request).say("groups_changed"))

    @app.post("/api/group/{number}/out")
    def take_out(request: Request, number: int, body: Change) -> dict[str, str]:
        check_numbers(request, body)
        if not body.photos:
            raise VerdictError(words_of(request).say("choose_first"))
        return changed(body, desk.groups.take_out(number, body.photos, body.who), "done_out")

    @app.post("/api/group/{number}/merge")
    def merge(request: Request, number: int, body: Change) -> dict[str, str]:
        check_numbers(request, body)
        return changed(body, [desk.groups.merge(number, body.other, body.who)], "done_merge")

    @app.post("/api/group/{number}/reference")
    def reference(number: int, body: Change) -> dict[str, str]:
        desk.groups.choose_reference(number, next(iter(body.photos), ""), body.who)
        return {"done": "done_reference"}

    @app.post("/api/group/{number}/undo")
    def undo(request: Request, number: int, body: Change) -> dict[str, str]:  # noqa: ARG001 - the address has it
        *before, change = body.undo.split(".")
        if not change:
            raise VerdictError(words_of(request).say("nothing_to_undo"))
        _undo(desk, change, body.who)
        return {"done": "undone", "undo": ".".join(before)}


def _undo(desk: Desk, change: str, who: str) -> None:
    """Take back the verdicts of one change of a group."""
    for n in count():
        if desk.verdicts.get(f"{change}:{n}") is None:
            return
        desk.verdicts.withdraw(f"{change}:{n}", who)


def _add_search(app: FastAPI, desk: Desk, searches: Searches) -> None:
    """Find photos like one."""

    @app.post("/api/search")
    async def search(request: Request) -> dict[str, str]:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != UPLOAD:
            raise VerdictError(f"send the photo as {UPLOAD}")
        desk.queues.refresh()
        return {"address": f"/search/{await run_in_threadpool(searches.add, await request.body())}"}
