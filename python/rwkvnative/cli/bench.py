"""``rwkvnative bench``: how fast a model runs, and how far that is from what the device can do."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..checks import MOST, integer, number
from ..errors import FileError, InputError
from . import options as opt
from .terminal import ProgressBar, command, note, write
from .tables import print_table

if TYPE_CHECKING:
    from ..bench.measure import Test
    from ..bench.peer import LlamaBench
    from ..bench.quality import Quality
    from ..bench.record import Report, Result
    from ..bench.subject import Subject

Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", metavar="FILE", help="GGUF file; may be repeated. Without it the embedded model.")
]
RandomModels = Annotated[
    list[str] | None,
    typer.Option("--random", metavar="SIZE:TYPE", help="A random model in memory, e.g. 2.9b:q4_k_m; may be repeated."),
]
Warm = Annotated[float, typer.Option(help="Warm up for at least so many seconds before timing.")]


@command
def bench(
    model: Models = None,
    random: RandomModels = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", metavar="N,...", help="Prompt lengths; 0: none.")] = "512",
    generate: Annotated[str, typer.Option("--generate", "-n", metavar="N,...", help="Numbers of new tokens; 0: none.")] = "128",
    batch: Annotated[str, typer.Option("--batch", "-b", metavar="N,...", help="How many sequences decode at once.")] = "1",
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", help="Timed repetitions of each test.")] = 5,
    warm: Warm = 0.5,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    numerics: opt.Numerics = "auto",
    max_device_memory: opt.MaxDeviceMemory = None,
    json: opt.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    compare: Annotated[
        str | None, typer.Option(metavar="FILE", help="Ratios to an earlier run's --json, on the same device.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option(metavar="llama-bench=PATH", help="Run llama.cpp's llama-bench on the same file in turn.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A text file: also loss on it, and with a reference KL divergence.")
    ] = None,
    quality_reference: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same model in F32, for --quality's KL divergence.")
    ] = None,
) -> None:
    """Measure tokens per second, beside what the device's memory and arithmetic allow."""
    from ..bench.measure import tests
    from ..bench.peer import parse_peer
    from ..bench.record import compare as compare_reports
    from ..bench.record import read_report

    chosen = tests(whole_numbers("-p", prompt), whole_numbers("-n", generate), whole_numbers("-b", batch))
    check_timing("bench", repetitions, warm)
    if sum((json, csv, md)) > 1:
        raise InputError("[bench] choose one of --json, --csv and --md")
    if quality_reference is not None and quality is None:
        raise InputError("[bench] --quality-reference needs --quality TEXT")
    if quality is not None and random:
        raise InputError("[bench] --quality: a random model predicts nothing; expected files only (-m)")
    before = read_report(compare) if compare is not None else None
    other = parse_peer(peer) if peer is not None else None
    text = read_text(quality) if quality is not None else None

    report = _measure_all(
        subjects(model, random, device, threads, numerics, max_device_memory), chosen, repetitions, warm, numerics, other,
        lambda path: _quality(path, text, quality_reference, device, threads, numerics),
    )  # fmt: skip
    compared = compare_reports(report, before, str(compare)) if before is not None else None
    if json:
        write(report.json() + "\n")
    elif csv:
        write(report.csv())
    elif md:
        write(report.markdown())
    else:
        print_table(*report.table())
    if compared is not None:
        print_table(*compared, to_stderr=json or csv)


def _measure_all(
    opened: Iterator[Subject],
    chosen: list[Test],
    repetitions: int,
    warm: float,
    numerics: str,
    peer: LlamaBench | None,
    score: Callable[[Path | None], Quality | None],
) -> Report:
    from .. import __version__
    from ..bench.ceilings import describe
    from ..bench.record import Report
    from ..bench.subject import device_facts

    report: Report | None = None
    for subject in opened:
        if report is None:
            report = Report(device_facts(subject.engine), subject.engine.ceilings(), [], __version__)
            note(f"{report.device['device_name']} ({report.device['backend']}); {describe(report.ceilings)}")
        quality = score(subject.path)
        with _peer_file(subject, peer) as path:
            for test in chosen:
                result = _measure(subject, test, repetitions, warm, numerics, peer, path)
                if quality is not None:
                    result.loss, result.kl_divergence = quality.loss, quality.kl_divergence
                report.results.append(result)
        subject.close()
    assert report is not None
    return report


def _measure(
    subject: Subject, test: Test, repetitions: int, warm: float, numerics: str, peer: LlamaBench | None, path: Path | None
) -> Result:
    from ..bench.measure import run_test, runner, time_once, warm_up
    from ..bench.record import Result

    work = test.work(subject)
    seconds: list[float] = []
    rates: list[float] = []
    if peer is None or path is None:
        seconds = run_test(subject.engine, test, repetitions, warm)
    else:
        info = subject.engine.info
        run = runner(subject.engine, test)
        for _ in range(repetitions):  # ours, theirs, ours, theirs: the machine's moods meet both
            warm_up(run, warm)
            seconds.append(time_once(run))
            rates.append(peer.measure(path, test, info["n_threads"], info["backend"] != "cpu"))
    return Result(
        subject.name, subject.types, subject.n_bytes, numerics, test.label, test.n_tokens, work.n_bytes, work.n_operations, seconds,
        peer=peer.name if peer is not None else None, peer_tokens_per_second=rates,
    )  # fmt: skip


@contextlib.contextmanager
def _peer_file(subject: Subject, peer: LlamaBench | None) -> Iterator[Path | None]:
    """The file that the peer reads: the model's own, or a random model written for the purpose."""
    if peer is None or subject.path is not None:
        yield subject.path
        return
    assert subject.write is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.gguf"
        subject.write(path)
        yield path


def _quality(
    path: Path | None, text: str | None, reference: str | None, device: str, threads: int | None, numerics: str
) -> Quality | None:
    from ..bench.quality import quality
    from ..model import Model

    if text is None or path is None:
        return None
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(Model(path, device, threads, numerics=numerics))
        # The reference computes in float32 whatever the model does.
        against = stack.enter_context(Model(reference, device, threads, numerics="f32")) if reference is not None else None
        return quality(model, text, against)


# ---- what bench, profile and tune share ----


def subjects(
    models: list[str] | None,
    random: list[str] | None,
    device: str,
    threads: int | None,
    numerics: str,
    max_device_memory: str | None = None,
) -> Iterator[Subject]:
    """The models that -m and --random name, opened one after the other; the embedded model if none is named."""
    from ..bench.subject import file_subject, random_subject
    from ..model import embedded_model_path

    check_model_options(threads, numerics)
    paths: list[str | Path] = list(models or ())
    if not paths and not random:
        paths = [embedded_model_path()]
    for path in paths:
        with ProgressBar("loading") as progress:
            subject = file_subject(path, device, threads, numerics, progress, max_device_memory)
        yield subject
    for spec in random or ():
        with ProgressBar("loading") as progress:
            subject = random_subject(spec, device, threads, numerics, progress, max_device_memory)
        yield subject


def check_model_options(threads: int | None, numerics: str) -> None:
    if threads is not None and not 1 <= threads <= 1024:
        raise InputError(f"[bench] --threads: expected 1 to 1024, got {threads}")
    if numerics not in ("auto", "f32", "int8"):
        raise InputError(f"[bench] --numerics: expected auto, f32 or int8, got {numerics!r}")


def check_timing(where: str, repetitions: int, warm: float) -> None:
    integer("-r", repetitions, low=1, high=MOST, where=where)
    number("--warm", warm, low=0, high=3600, where=where)


def whole_numbers(name: str, text: str) -> list[int]:
    """``"1,8,64"`` as numbers; InputError naming the option."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError:
        raise InputError(f"[bench] {name}: expected whole numbers such as 1,8,64, got {text!r}") from None


def read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"[bench] {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise FileError(f"[bench] {path}: expected UTF-8 text: {error}") from None
