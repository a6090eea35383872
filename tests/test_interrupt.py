"""Ctrl-C in the middle of a run, as a terminal sends it: to the command and to everything that it has started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from commands import neardup
from servers import environment

from neardup.builtin.scenes import Scene

PATIENCE_S = 240
"""Seconds to wait for a run to begin, and to end: an idle machine takes some five for each."""
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored


def test_ctrl_c_ends_a_run_with_one_sentence_and_the_run_goes_on_afterwards(
    team: dict[str, str], tmp_path: Path
) -> None:
    """It ends soon, without a traceback and with the shell's status; said again, the command does the rest."""
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Scene.of(number).image.save(tmp_path / "photos" / f"é {number}.png")
    command = [sys.executable, "-m", "neardup", "duplicates", "photos", "--out", "out"]
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        run = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )
        began = time.monotonic()
        while "Beginning flow run" not in errors.read_text() and time.monotonic() < began + PATIENCE_S:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(PATIENCE_S) == 130
    said = errors.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "neardup: interrupted; run the same command again and it goes on where it was"
    assert list((tmp_path / "out").rglob("*.part*")) == []
    again = neardup("duplicates", "photos", "--out", "out", cwd=tmp_path, **team)
    assert (again.returncode, again.stdout.startswith("4 photos")) == (0, True), again.stderr
