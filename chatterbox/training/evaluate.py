"""The held-out texts in; a table, a line of JSON and a plot out: how well the bundled voice speaks
beside its teacher.

Systems: `engine` speaks through the real engine (the checkpoint alone is needed); `teacher` is what
it learned from; `vocoder` and `tokens` go from the teacher's mel and from its true tokens (they
need the training state). All on one core.
"""

import argparse
import os
import sys
import time
import wave
from pathlib import Path

import numpy as np

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.corpus import HeldOutText, held_out
from chatterbox.training.evaluation.bars import bars
from chatterbox.training.evaluation.first_audio import first_audio
from chatterbox.training.evaluation.reading import Reading
from chatterbox.training.evaluation.report import Report, Take, TaughtText
from chatterbox.training.evaluation.streaming import Streaming
from chatterbox.training.evaluation.tables import json_line, table
from chatterbox.training.evaluation.timing import text_timing
from chatterbox.training.recogniser import Samples, Speaker

BUNDLED = Path(__file__).parents[1] / "checkpoints" / "tiny"


def keep_to_one_core() -> set[int]:
    """The cores that were lent. Before any library starts a thread, which would keep them all."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    return cores


def take_of(speak: Speaker, text: str, seed: int) -> Take:
    """Speak, by the clock and by the processor's own."""
    start, start_of_processor = time.perf_counter(), time.process_time()
    samples = speak(text, seed)
    made_s = time.perf_counter() - start
    return Take(samples, made_s, time.process_time() - start_of_processor)


def taught_texts(texts: list[tuple[int, HeldOutText]]) -> list[TaughtText]:
    """The teacher's reading of every text; the number of a text is its seed."""
    from chatterbox.training.teacher import Clip, Teacher

    teacher = Teacher()
    clips: list[Clip] = []

    def speak(text: str, seed: int) -> Samples:
        clips.append(teacher.speak(text, seed=seed))
        return clips[-1].wave.astype(np.float32) / np.float32(32768)

    speak("The first words are slower.", 0)
    found = []
    for seed, item in texts:
        take = take_of(speak, item.text, seed)
        timing = text_timing(clips[-1].phonemes, [float(end) for end in clips[-1].ends])
        reading = Reading(take.samples)
        found.append(TaughtText(item, seed, reading, timing, take.made_s, take.processor_s))
    return found


def judged_teacher(texts: list[TaughtText], keep: Path | None) -> Report:
    report = Report()
    for taught in texts:
        report.add(taught, Take(taught.reading.samples, taught.made_s, taught.processor_s))
        _keep(keep, taught, taught.reading.samples)
    return report


def judged(speak: Speaker, texts: list[TaughtText], keep: Path | None) -> Report:
    """A system that starts from the teacher's speech."""
    report = Report()
    for taught in texts:
        take = take_of(speak, taught.item.text, taught.seed)
        report.add(taught, take)
        _keep(keep, taught, take.samples)
    return report


def judged_engine(
    model: str | None, options: dict[str, float], texts: list[TaughtText], keep: Path | None
) -> tuple[Report, Streaming]:
    """The real engine, and what its windows cost."""
    from chatterbox.training.evaluation.rendition import WatchedEngine, WholeRendering

    engine = WatchedEngine(model, options)
    whole, streaming, report = WholeRendering(engine.engine), Streaming(), Report()
    for taught in texts:
        take = take_of(engine, taught.item.text, taught.seed)
        rendition = engine.last
        assert rendition is not None, "it has just spoken"
        report.add(taught, Take(take.samples, take.made_s, take.processor_s, rendition.warnings))
        streaming.add(rendition, whole, taught.reading)
        _keep(keep, taught, take.samples)
    return report, streaming


def _keep(folder: Path | None, taught: TaughtText, samples: Samples) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with wave.open(str(folder / f"{taught.seed:03d}-{taught.item.kind}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def checkpoint_mb(model: str | None) -> float:
    """All that a user downloads of it, in 10^6 bytes."""
    folder = BUNDLED if model is None else Path(model)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m chatterbox.training.evaluate", description=__doc__
    )
    made.add_argument("--model", help="checkpoint folder; default: the bundled one")
    made.add_argument(
        "--systems", default="teacher,engine", help="of teacher, vocoder, tokens, engine"
    )
    made.add_argument(
        "--work", type=Path, default=Path("build/training"), help="for vocoder and tokens"
    )
    made.add_argument("--every", type=int, default=1, help="judge only every n-th text")
    made.add_argument("--keep", type=Path, help="folder for the wave files")
    made.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the engine"
    )
    made.add_argument("--misheard", action="store_true", help="list what was heard wrongly")
    made.add_argument(
        "--first-audio", action="store_true", help="also listen to a daemon, on all cores lent"
    )
    made.add_argument("--plot", type=Path, help="draw the figures into this file (.png, .svg)")
    made.add_argument(
        "--gate",
        action="store_true",
        help="exit with status 1 if a bar is missed or was not measured; implies --first-audio",
    )
    arguments = made.parse_args()
    if arguments.plot and not {"teacher", "engine"} <= set(arguments.systems.split(",")):
        made.error("--plot shows the engine beside its teacher: it needs both systems")
    return arguments


def judged_systems(
    arguments: argparse.Namespace, texts: list[TaughtText]
) -> tuple[dict[str, Report], Streaming]:
    """Every system that was asked for."""
    options = {name: float(value) for name, value in (pair.split("=") for pair in arguments.option)}
    reports: dict[str, Report] = {}
    streaming = Streaming()
    for name in arguments.systems.split(","):
        keep = arguments.keep / name if arguments.keep else None
        if name == "teacher":
            reports[name] = judged_teacher(texts, keep)
        elif name == "engine":
            reports[name], streaming = judged_engine(arguments.model, options, texts, keep)
        else:
            from chatterbox.training.resynthesis import resynthesis_speaker

            speak = resynthesis_speaker(name, arguments.model, arguments.work)
            reports[name] = judged(speak, texts, keep)
        if arguments.misheard:
            for said, heard in reports[name].misheard:
                sys.stderr.write(f"{name}: {said}\n{'':{len(name)}}  {heard}\n")
    return reports, streaming


def main() -> None:
    """Judge, print, draw."""
    arguments = _arguments()
    cores = keep_to_one_core()
    texts = taught_texts(list(enumerate(held_out()))[:: arguments.every])
    reports, streaming = judged_systems(arguments, texts)
    figures: dict[str, object] = {name: report.figures() for name, report in reports.items()}
    if "engine" in reports:
        figures["engine"] = {**reports["engine"].figures(), **streaming.figures()}
        figures["checkpoint_mb"] = checkpoint_mb(arguments.model)
    if arguments.first_audio or arguments.gate:
        spoken = [taught.item.text for taught in texts]
        figures["first_audio"] = first_audio(spoken, arguments.model, cores=cores)
    found = bars(figures)
    sys.stdout.write(table(figures, found) + "\n" + json_line(figures, found) + "\n")
    if arguments.plot:
        from chatterbox.training.evaluation.plot import draw

        draw(figures, reports, streaming, arguments.plot)
    if arguments.gate and not all(bar.is_passed for bar in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
