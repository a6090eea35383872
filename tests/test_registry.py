"""The registry for real: versions, promotion, refusal, rollback, and the champion as an encoder and as a server."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
import torch
from commands import neardup
from mlflow import MlflowClient
from PIL import Image
from prefect import resume_flow_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_sync
from servers import BIN, free_port, serving

from flows.promote import promote
from neardup.approach import Approach
from neardup.archive.captions import translate_training_set
from neardup.archive.testset import TestSet
from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.decide.chosen_decision import DECISION, SHIPPED
from neardup.decide.decision import Decision
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.encode.trainable import load_trainable
from neardup.encode.vectors import embed
from neardup.errors import EncoderError, PromotionError
from neardup.experiment import encode_test_set, evaluate_approach, make_checkpoint
from neardup.measure.evaluate import Figure
from neardup.measure.promotion import Promotion
from neardup.settings.schema import Settings, TranslateSettings
from tasks import registry
from tasks.decisions import CHAMPION, chosen_encoder
from tasks.every_flow import fail_runs
from tasks.publish import publish_approaches
from tasks.pyfunc import NearDuplicates
from tasks.registry import MODEL, Candidates, find_candidates, nominate, register, rollback
from tasks.runs import log_approach
from tasks.tracking import Tracking, local_uri

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of MLflow's own imports


@dataclass(frozen=True)
class Contest:
    """An experiment whose zero-shot encoder knows nothing, and whose fine-tuned one tells scenes apart."""

    out: Path
    approaches: tuple[Approach, ...]
    team: dict[str, str]

    @property
    def client(self) -> MlflowClient:
        """Of its registry."""
        return MlflowClient(local_uri(self.out))

    @property
    def tracking(self) -> Tracking:
        """Its place for runs."""
        return Tracking(local_uri(self.out), self.out)

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        """A command that a user types."""
        return neardup(*command, "--out", self.out, cwd=self.out, **self.team)

    def version(self, alias: str) -> str:
        """The number of the version that has an alias."""
        return str(self.client.get_model_version_by_alias(MODEL, alias).version)

    def make_champion(self, version: str) -> None:
        """Make a version champion, as a person would in the MLflow UI."""
        self.client.set_registered_model_alias(MODEL, "champion", version)


def _measured(approach: Approach) -> Approach:
    encode_test_set(approach)
    evaluate_approach(approach)
    return approach


@pytest.fixture(scope="module")
def contest(
    prepared: Path, small_encoder: str, team: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Contest:
    """Both approaches measured, logged and registered in a sqlite file."""
    out = tmp_path_factory.mktemp("contest") / "results"
    shutil.copytree(prepared, out)
    translate_training_set(out, TranslateSettings(translator="none"), None, lambda _: None)
    untrained = load_trainable(small_encoder)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in untrained.model.parameters():
            weights.normal_(std=0.02)
    untrained.save(out / "untrained")
    settings = Settings(encoder=str(out / "untrained"))
    zero_shot = Approach("zero-shot", out, settings, load_encoder(settings.encoder).fingerprint)
    make_checkpoint(zero_shot)
    trained = replace(zero_shot, name="fine-tuned")
    shutil.copytree(small_encoder, trained.folder / "checkpoint")
    trained.checkpoint.finish([trained.folder / "checkpoint"])
    approaches = (_measured(zero_shot), _measured(trained))
    tracking = Tracking(local_uri(out), out)
    publish_approaches(tracking, approaches, tracking.open("experiment", "made").info.run_id)
    return Contest(out, approaches, team)


@pytest.fixture
def own(contest: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contest:
    """A copy of the contest for a test that leaves another registry behind."""
    out = tmp_path / "results"
    shutil.copytree(contest.out, out)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local_uri(out))  # which logging sets, and nobody takes back
    return Contest(out, tuple(replace(approach, out=out) for approach in contest.approaches), contest.team)


def test_every_approach_is_a_version_once(contest: Contest) -> None:
    """Logged again, the same weights of the same test set are the same version."""
    again = contest.tracking.open("experiment", "made again").info.run_id
    publish_approaches(contest.tracking, contest.approaches, again)
    versions = contest.client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(version.tags["approach"] for version in versions) == ["fine-tuned", "zero-shot"]


def test_a_version_says_what_it_is(contest: Contest) -> None:
    """Metrics, threshold, fingerprint, and the digests of both data sets."""
    version = contest.client.get_model_version_by_alias(MODEL, "challenger")
    facts = json.loads((contest.out / "fine-tuned" / "metrics.json").read_text())
    assert float(version.tags["threshold"]) == facts["threshold"]
    assert version.tags["fingerprint"] == facts["fingerprint"]
    expected = {name: figure["value"] for name, figure in facts["metrics"].items() if figure["value"] is not None}
    assert json.loads(version.tags["metrics"]) == pytest.approx(expected, abs=1e-6)
    assert float(version.tags["ndcg"]) == pytest.approx(expected["ndcg"], abs=1e-6)
    assert version.tags["test_set"] == TestSet.load(contest.out).digest
    assert len(version.tags["training_set"]) == 64


def test_the_first_champion_is_no_training_at_all(contest: Contest) -> None:
    """There is always something to search with, and something to beat."""
    champion = contest.client.get_model_version_by_alias(MODEL, "champion")
    assert champion.tags["approach"] == "zero-shot"
    assert "without fine-tuning" in champion.description


def test_the_challenger_gained_most_on_its_validation_photos(contest: Contest) -> None:
    """In nDCG, and of equal gains in µAP; the champion stays."""
    first, second = (contest.client.get_model_version_by_alias(MODEL, alias) for alias in ("champion", "challenger"))
    versions = {"zero-shot": first, "fine-tuned": second, "adapted": first}
    nominate(contest.tracking, versions, {"fine-tuned": (0.1, 0.1), "adapted": (0.1, 0.2)})
    assert contest.version("challenger") == str(first.version)
    nominate(contest.tracking, versions, {"fine-tuned": (0.2, -0.1), "adapted": (0.1, 0.2)})
    assert [contest.version(alias) for alias in ("champion", "challenger")] == [str(first.version), str(second.version)]


def test_a_normalised_zero_shot_is_found(contest: Contest) -> None:
    """Its fingerprint is another one than that of the encoder which was trained."""
    plain, trained = (contest.client.get_model_version_by_alias(MODEL, alias) for alias in ("champion", "challenger"))
    told = ((plain, {"fingerprint": "normalised"}), (trained, {}))
    versions = [
        contest.client.create_model_version(MODEL, version.source, tags=version.tags | {"base": "plain"} | more)
        for version, more in told
    ]
    found = find_candidates.fn(contest.tracking, contest.out, versions[1].version)
    for version in versions:
        contest.client.delete_model_version(MODEL, version.version)
    assert found is not None
    assert found.zero_shot.version == versions[0].version


def test_a_champion_that_was_named_meanwhile_stays(contest: Contest) -> None:
    """What was compared is another one."""
    first, second = (contest.client.get_model_version_by_alias(MODEL, alias) for alias in ("champion", "challenger"))
    gain = Figure(0.1, 0.1, 0.1)
    better = Promotion(promoted=True, metric="ndcg", gain=gain, over_zero_shot=gain, paragraph="")
    with pytest.raises(PromotionError, match=f"version {first.version} became champion meanwhile"):
        registry.promote.fn(contest.tracking, Candidates(second, second, first), better)
    assert contest.version("champion") == str(first.version)


def test_a_better_model_is_promoted_and_rolled_back(own: Contest) -> None:
    """By commands; each step is written down in the versions and in a run."""
    contest = own
    ran = contest.run("promote", "--json")
    assert ran.returncode == 0, ran.stderr
    verdict = json.loads(ran.stdout)
    first, second = verdict["champion"], verdict["challenger"]
    assert (verdict["promoted"], contest.version("champion")) == (True, second)
    assert contest.client.get_model_version(MODEL, second).description.endswith(verdict["why"])
    experiment = contest.client.get_experiment_by_name("neardup").experiment_id
    runs = contest.client.search_runs([experiment], "attributes.run_name = 'promote'")
    assert runs[0].data.metrics["gain"] == pytest.approx(verdict["gain"]["value"])

    contest.client.delete_run(runs[0].info.run_id)  # as if the server had been away when it was to be logged
    for _ in range(2):
        again = contest.run("promote")
        assert (again.returncode, "there is nothing to do" in again.stdout) == (0, True), again.stderr
    runs = contest.client.search_runs([experiment], "attributes.run_name = 'promote'")
    assert [run.data.metrics["gain"] for run in runs] == [pytest.approx(verdict["gain"]["value"])]

    back = contest.run("rollback")
    assert (back.returncode, contest.version("champion")) == (0, first), back.stderr
    assert f"version {first} is champion in place of version {second}" in back.stdout
    assert contest.client.get_model_version(MODEL, second).tags["verdict"] == "rolled back"
    with pytest.raises(PromotionError, match="is the first champion: name another one with --to VERSION"):
        rollback(contest.tracking)


def test_a_rollback_that_is_given_again_rolls_back_once(own: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that goes away at its last step leaves the champion; the same command then does what it would have."""
    first, second = own.version("champion"), own.version("challenger")
    own.make_champion(second)

    def away(*_: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(type(own.client), "set_registered_model_alias", away)
        with pytest.raises(Exception, match="away"):
            rollback(own.tracking, first)
    assert own.version("champion") == second
    rollback(own.tracking, first)
    assert own.version("champion") == first
    assert own.client.get_model_version(MODEL, second).tags["verdict"] == "rolled back"
    assert own.client.get_model_version(MODEL, second).description.count("Rolled back:") == 1


def test_without_a_trained_version_there_is_nothing_to_promote(own: Contest) -> None:
    """As where the encoder is an ONNX file; another experiment would not change it, and a nightly run is no failure."""
    own.client.delete_registered_model_alias(MODEL, "challenger")
    ran = own.run("promote")
    assert (ran.returncode, ran.stderr.count("neardup:")) == (0, 0)
    assert "is the champion, and no trained version challenges it: there is nothing to do" in ran.stdout
    own.client.delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(PromotionError, match="holds no champion of near-duplicates: run `neardup experiment` first"):
        find_candidates.fn(own.tracking, own.out)


def test_what_was_rolled_back_stays_back_until_somebody_names_it(own: Contest) -> None:
    """The next experiment makes it challenger no more; a newer version may be."""
    first, second = own.version("champion"), own.version("challenger")
    own.make_champion(second)
    rollback(own.tracking, first)
    for _ in range(2):
        why = find_candidates.fn(own.tracking, own.out)
        assert str(why).startswith(f"Version {second} was rolled back, and no challenger is newer: there is nothing to")
        publish_approaches(own.tracking, own.approaches, own.tracking.open("experiment", "later").info.run_id)
    named = find_candidates.fn(own.tracking, own.out, second)
    assert isinstance(named, Candidates)
    assert [str(named.challenger.version), str(named.champion.version)] == [second, first]
    newer = own.client.create_model_version(MODEL, named.challenger.source, tags=named.challenger.tags)
    own.client.delete_model_version_tag(MODEL, newer.version, "verdict")
    versions = {"fine-tuned": named.challenger, "adapted": newer}
    nominate(own.tracking, versions, {"fine-tuned": (0.2, 0.2), "adapted": (0.1, 0.1)})
    found = find_candidates.fn(own.tracking, own.out)
    assert isinstance(found, Candidates)
    assert found.challenger.version == newer.version


def test_an_untrained_champion_is_measured_on_a_test_set_that_changed(own: Contest) -> None:
    """So that challengers can be judged again; a trained one, which may know photos of it, has no successor."""

    def edit_ground_truth() -> None:
        TestSet(TestSet.load(own.out).photos[:-1]).save(own.out)
        for approach in own.approaches:
            _measured(approach)
        run = own.tracking.open("experiment", TestSet.load(own.out).digest).info.run_id
        publish_approaches(own.tracking, own.approaches, run)

    first = own.version("champion")
    edit_ground_truth()
    champion = own.client.get_model_version_by_alias(MODEL, "champion")
    assert (str(champion.version) != first, champion.tags["test_set"]) == (True, TestSet.load(own.out).digest)
    assert f"The weights of version {first} with another test set." in champion.description
    assert isinstance(find_candidates.fn(own.tracking, own.out), Candidates)
    trained = own.version("challenger")
    own.make_champion(trained)
    edit_ground_truth()
    assert own.version("champion") == trained


def test_what_was_verified_of_former_weights_is_not_logged_with_new_ones(own: Contest) -> None:
    """Where the settings leave verification out; a decision of these very weights stays."""
    shipped, trained = Decision.load(SHIPPED), own.approaches[1]
    unverified = replace(trained, settings=replace(trained.settings, verify=False))
    left = ("decision.json", "verified.json", "verified.md", "reliability.png", "explained_1.jpg")
    for name in left:
        (trained.folder / name).write_text("{}")
    shipped.save(trained.folder / DECISION)
    shutil.rmtree(trained.folder / "checkpoint")
    shutil.copytree(own.out / "zero-shot" / "checkpoint", trained.folder / "checkpoint")
    _measured(unverified)
    run_id = own.tracking.open("fine-tuned", "of these weights").info.run_id
    log_approach(own.tracking, run_id, unverified)
    logged = [
        Path(file.path).name for folder in ("tables", "pictures") for file in own.client.list_artifacts(run_id, folder)
    ]
    assert "metrics.json" in logged
    assert set(left) & {*logged, *(path.name for path in trained.folder.iterdir())} == set()
    own_decision = replace(shipped, belongs=replace(shipped.belongs, encoder=trained.base))
    own_decision.save(trained.folder / DECISION)
    _measured(unverified)
    assert Decision.load(trained.folder / DECISION) == own_decision


def test_a_version_says_what_was_measured_last(own: Contest) -> None:
    """As with other distractors; the model and its threshold stay."""
    approach, file = own.approaches[0], own.out / "zero-shot" / "metrics.json"
    before = own.client.get_model_version_by_alias(MODEL, "champion")
    facts = json.loads(file.read_text())
    facts["metrics"]["ndcg"]["value"] = 0.25
    file.write_text(json.dumps(facts))
    assert register(own.tracking, before.run_id, approach).version == before.version
    after = own.client.get_model_version(MODEL, before.version)
    assert (after.tags["ndcg"], json.loads(after.tags["metrics"])["ndcg"]) == ("0.25", 0.25)
    assert {name for name in after.tags if after.tags[name] != before.tags[name]} <= {"ndcg", "metrics", "measured"}


def test_a_worse_model_is_refused(contest: Contest) -> None:
    """The alias stays, and the version says why."""
    first, second = contest.version("champion"), contest.version("challenger")
    contest.make_champion(second)
    ran = contest.run("promote", "--version", first)
    assert (ran.returncode, contest.version("champion")) == (0, second), ran.stderr
    assert "Refused, for the gain is below the margin" in ran.stdout
    assert contest.client.get_model_version(MODEL, first).tags["verdict"] == "refused"
    contest.make_champion(first)


def suspended(contest: Contest) -> FlowRun:
    """A run of the deployment, which waits for a person after its first start."""
    with get_client(sync_client=True) as client:
        parameters = {"out": str(contest.out), "ask_person": True}
        deployment = client.create_deployment(client.create_flow(promote), "asked", parameters=parameters)
        run = client.create_flow_run_from_deployment(deployment)
        with pytest.raises(Pause):
            run_flow_sync(promote, flow_run=run, parameters=run.parameters)
        return client.read_flow_run(run.id)


def answer(run: FlowRun, **form: object) -> dict[str, Any]:
    """What a waiting run returns when a person has filled in its form and the worker has started it again."""
    resume_flow_run(run.id, run_input=form)
    with get_client(sync_client=True) as client:
        found: Any = run_flow_sync(promote, flow_run=client.read_flow_run(run.id), parameters=run.parameters)
    return dict(found)


@pytest.mark.usefixtures("prefect")
def test_a_promotion_waits_for_a_person_who_confirms_it(contest: Contest) -> None:
    """The form shows the reasons and the figures; until it is filled in the champion stays."""
    first, second = contest.version("champion"), contest.version("challenger")
    run = suspended(contest)
    assert run.state is not None
    assert (run.state.name, contest.version("champion")) == ("Suspended", first)
    keys = run.state.state_details.run_input_keyset
    assert keys is not None
    with get_client(sync_client=True) as client:
        shown = str(client.read_flow_run_input(run.id, keys["description"]))
    assert "nDCG of the challenger" in shown
    assert re.search(r"\| champion +\| challenger +\|", shown)
    verdict = answer(run, approve=True, who="Ada", why="looked at it")
    assert (verdict["promoted"], contest.version("champion")) == (True, second)
    assert verdict["why"].endswith("Confirmed by Ada: looked at it.")
    contest.make_champion(first)


@pytest.mark.usefixtures("prefect")
def test_a_person_may_refuse_what_the_figures_promote(contest: Contest, tmp_path: Path) -> None:
    """The champion stays, and the version says who refused; the settings of the output folder hold meanwhile."""
    first, second = contest.version("champion"), contest.version("challenger")
    settings = contest.out / "neardup.toml"
    settings.write_text(f'[cluster]\nstore = "{tmp_path / "vectors"}"\n')
    verdict = answer(suspended(contest), who="Ben", approve=False)
    settings.unlink()
    assert any((tmp_path / "vectors").rglob("*.parquet"))
    assert (verdict["promoted"], contest.version("champion")) == (False, first)
    version = contest.client.get_model_version(MODEL, second)
    assert (version.tags["verdict"], "Refused by Ben." in version.description) == ("refused", True)


@pytest.mark.usefixtures("prefect")
def test_a_run_of_no_deployment_cannot_wait(contest: Contest) -> None:
    """Nothing could start it again; that is said in a sentence."""
    with pytest.raises(PromotionError, match="only as a run of the deployment `promote`"):
        promote(contest.out, ask_person=True)


def test_a_champion_whose_files_are_gone_is_no_missing_champion(contest: Contest, tmp_path: Path) -> None:
    """Another encoder would search in its place without a word."""
    first, said = contest.version("champion"), list[str]()
    gone = contest.client.create_model_version(MODEL, str(tmp_path / "gone"))
    contest.client.set_registered_model_alias(MODEL, "champion", gone.version)
    with pytest.raises(EncoderError, match="models:/near-duplicates@champion holds no checkpoint"):
        chosen_encoder(contest.out, None, said.append)
    assert said == []
    contest.client.set_registered_model_alias(MODEL, "champion", first)
    contest.client.delete_model_version(MODEL, gone.version)
    assert chosen_encoder(contest.out, None, said.append)[0] == CHAMPION
    contest.client.delete_registered_model_alias(MODEL, "champion")
    assert chosen_encoder(contest.out, None, said.append)[0] == BUILTIN
    contest.client.set_registered_model_alias(MODEL, "champion", first)


def test_another_test_set_is_refused(contest: Contest) -> None:
    """A champion may have been trained on photos of it."""
    table = contest.out / "test_set.csv"
    kept = table.read_bytes()
    table.write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
    with pytest.raises(PromotionError, match=r"was measured on the test set .*, so they are not compared"):
        find_candidates.fn(contest.tracking, contest.out)
    table.write_bytes(kept)


def test_a_version_that_is_not_there_is_one_sentence(contest: Contest) -> None:
    """It names the version."""
    with pytest.raises(PromotionError, match=f"{MODEL} has no version 99"):
        find_candidates.fn(contest.tracking, contest.out, "99")


def test_a_flow_that_fails_leaves_no_run_open(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had begun in MLflow is marked as failed; what was finished before stays so."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the-flow-run")
    begun = contest.tracking.open("begun", "made").info.run_id
    finished = contest.tracking.open("zero-shot", contest.approaches[0].measured.key).info
    fail_runs(contest.out, "the-flow-run")
    assert contest.client.get_run(begun).info.status == "FAILED"
    assert contest.client.get_run(finished.run_id).info.status == finished.status == "FINISHED"


def test_the_champion_is_an_encoder(contest: Contest, small_encoder: str) -> None:
    """An alias is followed each time, the weights of a version are fetched once."""
    tracking = contest.tracking
    name = f"models:/{MODEL}@champion"
    first = tracking.encoder(name)
    assert tracking.encoder(name) == first
    assert load_encoder(first).fingerprint == contest.approaches[0].base
    champion = contest.version("champion")
    contest.make_champion(contest.version("challenger"))
    assert load_encoder(tracking.encoder(name)).fingerprint == load_encoder(small_encoder).fingerprint
    contest.make_champion(champion)


def test_the_champion_watches_the_archive(contest: Contest, made: MadeArchive) -> None:
    """At its own threshold."""
    ran = contest.run("watch", made.root, "--json")
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout)
    threshold = json.loads((contest.out / "zero-shot" / "metrics.json").read_text())["threshold"]
    assert (facts["threshold"], facts["encoder"]) == (threshold, f"models:/{MODEL}@champion")
    assert (Path(facts["folder"]) / "gallery.html").is_file()


@pytest.fixture(scope="module")
def served(contest: Contest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The challenger behind MLflow's own model server."""
    port = free_port()
    command = [str(BIN / "mlflow"), "models", "serve", "--model-uri", f"models:/{MODEL}@challenger"]
    command += ["--env-manager", "local", "--port", str(port)]
    path = f"{BIN}:/usr/bin:/bin"
    folder = tmp_path_factory.mktemp("served")
    with serving(
        command, f"http://127.0.0.1:{port}/health", folder, MLFLOW_TRACKING_URI=local_uri(contest.out), PATH=path
    ):
        yield f"http://127.0.0.1:{port}/invocations"


def ask(address: str, image: object, **params: object) -> tuple[int, dict[str, object]]:
    """Send one image; the status and the answer."""
    body = {"dataframe_split": {"columns": ["image"], "data": [[image]]}, "params": params}
    asked = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(asked) as answer:  # noqa: S310 - this machine
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def test_the_server_answers_with_vectors_and_with_hits(contest: Contest, served: str) -> None:
    """Vectors are those of the encoder; the first hit of a photo of the gallery is that photo."""
    photo = TestSet.load(contest.out).photos[0]
    file = contest.out / "test_dataset" / photo.name
    image = base64.b64encode(file.read_bytes()).decode()
    status, answer = ask(served, image)
    encoder = load_encoder(str(contest.out / "fine-tuned" / "checkpoint"))
    vectors = np.array(answer["predictions"], dtype=np.float32)
    assert (status, np.allclose(vectors, encoder.encode([encoder.read(file)]), atol=1e-6)) == (200, True)
    status, answer = ask(served, image, top=3)
    hits = answer["predictions"][0]
    assert (status, len(hits), hits[0]["path"], hits[0]["near_duplicate"]) == (200, 3, photo.path, True)


def _picture(kind: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "gray").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("image", "params", "sentence"),
    [
        ("no image", {}, "image 1 is neither base64 of an image nor its bytes"),
        ("/etc/hostname", {}, "image 1 is neither base64 of an image nor its bytes"),
        ("http://127.0.0.1/a.jpg", {}, "image 1 is neither base64 of an image nor its bytes"),
        (None, {}, "image 1 is neither base64 of an image nor its bytes"),
        (_picture("PNG")[:40], {}, "image 1 is neither base64 of an image nor its bytes"),
        (_picture("PNG"), {"top": -1}, "ask for 1 hit or more"),
    ],
)
def test_the_server_refuses_in_a_sentence(served: str, image: object, params: dict[str, object], sentence: str) -> None:
    """With a 400, whatever is sent; no file and no address is read."""
    status, answer = ask(served, image, **params)
    assert (status, sentence in str(answer["message"])) == (400, True), answer


def test_another_decision_of_the_champions_weights_takes_its_place(contest: Contest, tmp_path: Path) -> None:
    """It is a version of its own, once, and rolls back to what the champion did; another model's champion stays.

    A decision that was there before puts its version in place again.
    """
    out = tmp_path / "results"
    shutil.copytree(contest.out, out)
    tracking = Tracking(local_uri(out), out)
    zero_shot, trained = (replace(approach, out=out) for approach in contest.approaches)
    runs = {a.name: tracking.open(a.name, a.measured.key).info.run_id for a in (zero_shot, trained)}
    tracking.client.set_model_version_tag(MODEL, contest.version("champion"), "former_champion", "7")
    shipped = Decision.load(SHIPPED)
    strict = replace(shipped, bands=replace(shipped.bands, precision=replace(shipped.bands.precision, threshold=0.99)))
    champions = []
    for decision in (shipped, strict, shipped):
        for approach in (zero_shot, trained):
            assert approach.verification
            decision.save(approach.folder / DECISION)
            approach.verification.finish([], {"ndcg": 1.0})
            version = register(tracking, runs[approach.name], approach)
            assert version.tags["decision"] == decision.fingerprint
            assert register(tracking, runs[approach.name], approach).version == version.version
        champions.append(tracking.client.get_model_version_by_alias(MODEL, "champion"))
    assert [champion.tags["decision"] for champion in champions] == [
        decision.fingerprint for decision in (shipped, strict, shipped)
    ]
    assert {(c.tags["fingerprint"], c.tags["former_champion"]) for c in champions} == {(zero_shot.base, "7")}


def test_the_model_encodes_as_its_gallery_was_encoded(small_encoder: str, tmp_path: Path) -> None:
    """A large JPEG is decoded at a fraction; its hit is the image itself."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Scene.of(2).image.resize((1680, 1260)).save(folder / "large.jpg")
    embed(folder, load_encoder(small_encoder)).save(tmp_path / "gallery.parquet")
    (tmp_path / "metrics.json").write_text('{"threshold": 0.9}', encoding="utf-8")
    files = {"metrics": "metrics.json", "gallery": "gallery.parquet"}
    model = NearDuplicates()
    model.load_context(
        SimpleNamespace(
            artifacts={"checkpoint": small_encoder, **{name: str(tmp_path / file) for name, file in files.items()}}
        )
    )
    request = pd.DataFrame({"image": [(folder / "large.jpg").read_bytes()]})
    ((hit,),) = model.predict(None, request, {"top": 1})
    assert (hit["itself"], hit["near_duplicate"]) == (True, True)
    assert hit["similarity"] == pytest.approx(1, abs=1e-6)
