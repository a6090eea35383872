"""What the review page asks of its server, as JSON: the next pairs, verdicts, undo, groups, the search."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from neardup.errors import ArchiveError, VerdictError
from neardup.review.candidates import Photo
from neardup.review.desk import Desk
from neardup.review.facts import PhotoFacts
from neardup.review.queues import AUDIT, REVIEW, TRUTH
from neardup.review.security import UPLOAD
from neardup.review.shown import machine_says, shown_photo, shown_points, shown_progress, shown_task, shown_with
from neardup.review.verdicts import Verdict
from neardup.search.nearest import Hit

AHEAD = 4
"""Pairs that a browser gets at once: the one that is shown, and the next three, whose pictures it decodes ahead."""

Who = Annotated[str, Field(min_length=1, max_length=80)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")]


class Body(BaseModel):
    """What a browser sends; nothing else may stand in it."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(Body):
    """A verdict as a browser sends it."""

    id: Name
    photo: Digest
    partner: Digest
    verdict: Literal["same", "same scene", "different", "cannot tell"]
    who: Who
    queue: Literal["review", "audit", "group", "ground truth", "pair", "search"]
    relation: Annotated[str, Field(max_length=80)] = ""
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


class Part(Body):
    """Photos of a group that are taken out of it."""

    photos: Annotated[list[Digest], Field(min_length=1, max_length=10_000)]
    who: Who


class Merge(Body):
    """Another group that is the same as this one."""

    other: int
    who: Who


class Choice(Body):
    """The photo that stands for a group."""

    photo: Digest
    who: Who


class Words(Body):
    """Words that describe a photo."""

    text: Annotated[str, Field(min_length=1, max_length=400)]


def add_api(app: FastAPI, desk: Desk) -> None:
    """Answer what the page asks."""
    _add_tasks(app, desk)
    _add_verdicts(app, desk)
    _add_groups(app, desk)
    _add_search(app, desk)


def _add_tasks(app: FastAPI, desk: Desk) -> None:
    """Hand out pairs."""

    @app.get("/api/tasks")
    def tasks(
        queue: Literal["review", "audit", "group", "ground truth"],
        session: Annotated[str, Query(pattern=r"^[\w.:-]{1,64}$")],
        who: Annotated[str, Query(max_length=80)] = "",
        group: int = 0,
        but: Annotated[str, Query(pattern=r"^[\d,]*$", max_length=400)] = "",
    ) -> dict[str, Any]:
        desk.queues.refresh()
        have = [int(number) for number in but.split(",") if number]
        found = desk.queues.take(queue, session, AHEAD - len(have), group=group, but=have)
        desk.pictures.warm(photo.sha256 for task in found for photo in (task.pair.photo, task.pair.partner))
        progress = desk.queues.progress(queue, who or desk.who, group)
        return {"tasks": [shown_task(task, queue) for task in found], "progress": shown_progress(progress)}

    @app.get("/api/pair/{photo}/{partner}")
    def pair(photo: str, partner: str) -> dict[str, Any]:
        desk.queues.refresh()
        task, progress = desk.queues.task_of(photo, partner, REVIEW), desk.queues.progress(REVIEW, desk.who)
        return {"tasks": [shown_task(task, REVIEW)], "progress": shown_progress(progress)}

    @app.get("/api/points/{photo}/{partner}")
    def points(photo: str, partner: str) -> dict[str, Any]:
        evidence, files = desk.results.evidence(photo, partner), sorted((photo, partner))
        first, second = (desk.results.file_of(digest) for digest in files)
        if desk.points is None or evidence is None or first is None or second is None:
            return {"points": []}
        return {"points": shown_points(desk.points(first, second), evidence, photo)}

    @app.post("/api/skip")
    def skip(body: Skip) -> dict[str, Any]:
        desk.queues.skip(body.session, body.number)
        return {}


def _add_verdicts(app: FastAPI, desk: Desk) -> None:
    """Take verdicts, and take them back."""

    def saw(answer: Answer) -> dict[str, Any]:
        """What the person saw of the pair."""
        try:
            task = desk.queues.task_of(answer.photo, answer.partner, answer.queue)
        except ArchiveError:
            return {}
        drawn = desk.queues.drawn if answer.queue == AUDIT else None
        return shown_with(task, desk.results, answer.queue, drawn)

    @app.post("/api/verdict")
    def verdict(body: Answer) -> dict[str, Any]:
        given = Verdict.of(
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
            shown=saw(body),
            id=body.id,
        )
        return {"new": desk.verdicts.add(given)}

    @app.post("/api/undo")
    def undo(body: Undo) -> dict[str, Any]:
        pairs = []
        for identity in body.ids:
            earlier = desk.verdicts.get(identity)
            if earlier is None:
                raise VerdictError("that verdict was not stored: there is nothing to take back")
            desk.verdicts.withdraw(identity, body.who)
            pairs.append(earlier)
        desk.queues.refresh()
        queue = pairs[-1].queue
        try:
            shown = shown_task(desk.queues.task_of(*pairs[-1].pair, queue), queue)
        except ArchiveError:
            shown = None
        return {"task": shown, "queue": queue}


def _add_groups(app: FastAPI, desk: Desk) -> None:
    """Change groups, each change a verdict or several."""

    @app.post("/api/group/{number}/out")
    def take_out(number: int, body: Part) -> dict[str, Any]:
        given = desk.groups.take_out(number, body.photos, body.who)
        desk.verdicts.add_all(given)
        return {"ids": [verdict.id for verdict in given]}

    @app.post("/api/group/{number}/merge")
    def merge(number: int, body: Merge) -> dict[str, Any]:
        given = desk.groups.merge(number, body.other, body.who)
        desk.verdicts.add(given)
        return {"ids": [given.id]}

    @app.post("/api/group/{number}/reference")
    def reference(number: int, body: Choice) -> dict[str, Any]:
        desk.groups.choose_reference(number, body.photo, body.who)
        return {}


def _add_search(app: FastAPI, desk: Desk) -> None:
    """Find photos like one, or like words."""

    def found(hits: list[Hit], query: str, data: bytes = b"") -> list[dict[str, Any]]:
        """The hits as the browser is told of them, with what the machine says of each and the photo searched for."""
        shown = []
        proofs = desk.prove(query, data, hits) if data else {}
        for hit in hits:
            if not desk.results.learn(hit.path, hit.photo):
                continue  # its file is gone, or was replaced since it was encoded
            photo = Photo(hit.photo, hit.path, desk.results.facts.of(hit.path))
            says: dict[str, Any] = proofs.get(hit.photo, {})
            if query and None not in {desk.results.photo_of(query), desk.results.photo_of(hit.photo)}:
                says = machine_says(desk.results.pair(query, hit.photo))
            said = desk.queues.answers.of(query, hit.photo) if query else []
            shown.append(
                {"photo": shown_photo(photo), "similarity": hit.similarity}
                | {name: says.get(name) for name in ("sentence", "relation", "probability")}
                | {"said": [verdict.verdict for verdict in said]}
            )
        return shown

    @app.post("/api/search")
    async def search(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != UPLOAD:
            raise VerdictError(f"send the photo as {UPLOAD}")
        data = await request.body()

        def answer() -> dict[str, Any]:
            query = desk.pictures.add(data)
            hits = desk.lookup.like_photo(data, desk.max_pixels)
            desk.results.bring(query)
            brought = desk.results.content(query) or Photo(query, "", PhotoFacts("", ""))
            return {"query": shown_photo(brought), "hits": found(hits, query, data)}

        desk.queues.refresh()
        return await run_in_threadpool(answer)

    @app.post("/api/words")
    def words(body: Words) -> dict[str, Any]:
        return {"query": None, "hits": found(desk.lookup.like_words(body.text), "")}
