"""The training loop: activations in, a finished SAE out, with progress, metrics, checkpoints and a safe interrupt.

Several SAEs can be trained at once, at several hook points: the model runs once for all of them. On a GPU the host
only launches a step; it waits for the metrics where a row is logged, at a checkpoint and at the end. A Trainer takes
each step; what is trained where is decided in targets.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from ..activations import ActivationBatches, ActivationSource, ModelActivations
from ..activations.arrays import NO_HOOK_POINT, ArraySource
from ..activations.source import check_provenance
from ..activations.sources import Activations, as_source
from ..arguments import check_path
from ..corpus import AnyCorpus, Corpus, Windows
from ..errors import ConfigError, MismatchError
from ..hook_points import HookPoint
from ..models import LanguageModel
from ..sae import SAE, SAEConfig, common_prepend_bos
from .config import TrainConfig, configuration_differs, difference
from .interrupts import interrupts
from .loggers import Logger, LoggerGroup, RunInfo, TrainedSAEs, checked, watched
from .metrics import StepMetrics
from .run_folder import RunFolder, check_origin, origin_of
from .targets import HookPoints, HookSplitter, TrainingTarget, all_hooks, check_widths, listed, placed, token_filter_of
from .trainer import Trainer


@overload
def train(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationSource | Activations,
    *,
    sae: SAEConfig,
    config: TrainConfig,
    hook_name: HookPoint | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    activations: ActivationSource | Activations | None = None,
    loggers: Sequence[Logger] = (),
) -> SAE: ...


@overload
def train(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationSource | Activations,
    *,
    sae: SAEConfig,
    config: TrainConfig,
    hook_name: list[str] | list[tuple[str, ...]] | list[HookPoint],
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    activations: ActivationSource | Activations | None = None,
    loggers: Sequence[Logger] = (),
) -> TrainedSAEs: ...


@overload
def train(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationSource | Activations,
    *,
    sae: Sequence[SAEConfig],
    config: TrainConfig,
    hook_name: HookPoints | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    activations: ActivationSource | Activations | None = None,
    loggers: Sequence[Logger] = (),
) -> TrainedSAEs: ...


def train(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationSource | Activations,
    *,
    sae: SAEConfig | Sequence[SAEConfig],
    config: TrainConfig,
    hook_name: HookPoints | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    activations: ActivationSource | Activations | None = None,
    loggers: Sequence[Logger] = (),
) -> SAE | TrainedSAEs:
    """A trained SAE, in the model's units, with where it came from in its config and its metrics in `.history`.

    `corpus` is text, token windows, or activations: a cache or any ActivationSource (also as `activations`; the model
    may then be None, and hook_name is the source's unless it is given: one or several of those in it), or an array
    (tensor, numpy, .npy or .safetensors file) or batches ([n, d_in] or [batch, pos, d_in]) from a list, a DataLoader,
    a function that returns them or a generator; a generator is read once, and a run on one cannot be resumed. `loggers`
    (sk.TrainingMonitor() is one) are given the start, every `log_every` steps and the end.

    A list of configurations, of hook points or of both gives a list of SAEs trained on the same batches by one run of
    the model: every configuration at the first hook point, then every one at the second, and so on. A configuration
    with a hook_name of its own is trained there only. A hook point that is a tuple of names makes a crosscoder, which
    reads them side by side; a configuration with a hook_out makes a transcoder. A token counts where the token filter
    of every hook point of the run keeps it.

    With `out` the folder receives metrics.jsonl, checkpoints/ while the run lasts, and the SAE (one folder each for a
    list). The same call again resumes from the newest whole checkpoint, bit for bit on a CPU, and returns the SAE if
    the run had ended; another configuration, and other text or activations, is a MismatchError (of a stream the first
    windows are compared, of an array all of it, of an iterable of batches the first). resume=False starts again. An
    interrupt (the notebook's stop button, Ctrl-C) ends the run after the current step and returns the SAE as it is,
    saved if there is an `out`.

    Raises FolderInUseError while another process writes to `out`; DataError for activations that are not finite, on a
    CPU at their step, on a GPU at the next step that is logged or saved, with weights and checkpoints free of them;
    DiskFullError with the last checkpoint intact.

    >>> config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    >>> trained = sk.train(model, corpus, hook_name=HOOK, config=config, progress=False,
    ...                    sae=sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    >>> trained.config.hook_name == HOOK, list(trained.history.columns)[:3]
    (True, ['n_tokens', 'loss', 'mse'])
    >>> two = sk.train(model, corpus, hook_name=[HOOK, "blocks.1.hook_resid_post"], config=config, progress=False,
    ...                sae=sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    >>> [sae.config.hook_name for sae in two]
    ['blocks.0.hook_resid_post', 'blocks.1.hook_resid_post']
    """
    _check_kinds(model, config)
    if out is not None:
        check_path("out", out)
    source = as_source(
        model,
        corpus if activations is None else activations,
        length=config.context_size,
        buffer_tokens=config.buffer_tokens,
        prepend_bos=common_prepend_bos(listed(sae)),
    )
    loggers = checked(loggers)
    free = any(c.hook_name is None for c in listed(sae))
    if hook_name is None and free:
        hook_name = source.hook_name
    asked = placed(sae, hook_name)
    batches = _batches(model, source, asked, config)
    dataset = corpus.name if isinstance(corpus, Corpus) else source.provenance.dataset
    configs = [_with_provenance(c, source, dataset, batches) for c in asked]
    single = isinstance(sae, SAEConfig) and not isinstance(hook_name, list)
    folder = RunFolder(out, configs, single, config, origin_of(batches))
    if not (resume and (saes := _finished(folder, loggers, clear=False))):  # nothing is written, so no lock is needed
        with folder.locked():
            saes = _finished(folder, loggers, clear=True) if resume else None
            saes = saes or _trained(folder, batches, resume, progress, loggers)
    return saes[0] if single else TrainedSAEs(saes)


def _finished(folder: RunFolder, loggers: Sequence[Logger], *, clear: bool) -> list[SAE] | None:
    """The SAEs of a run that has ended in the folder, which the loggers are told; see RunFolder.finished."""
    saes = folder.finished(clear=clear)
    if saes is not None:
        run = RunInfo.of(folder.configs, folder.config, folder.rows, folder.config.n_steps, folder.path)
        with watched(loggers, run) as logger_group:
            logger_group.status = "finished"
    return saes


def _trained(
    folder: RunFolder, batches: ActivationBatches, resume: bool, progress: bool, loggers: Sequence[Logger]
) -> list[SAE]:
    """The SAEs, trained from where the folder's last checkpoint has them."""
    config = folder.config
    targets = [TrainingTarget.of(c, config, batches) for c in folder.configs]
    trainers = [f.trainer for f in targets]
    state = folder.resume() if resume else None
    if state is not None:
        if len(state["trainers"]) != len(trainers):
            raise MismatchError(
                "a run of another number of SAEs lies here",
                got=len(trainers),
                accepted=len(state["trainers"]),
                fix="pass the same configurations to resume, or another out= (resume=False starts again)",
            )
        if differs := difference(state["trainers"][0]["train_config"], config.to_dict()):
            raise configuration_differs(*differs)
        check_origin(state.get("trained_on"), folder.origin, folder.path)
        batches.load_state_dict(state["batches"])  # first: other text is named as such, not by its token filter
        for trainer, saved in zip(trainers, state["trainers"], strict=True):
            trainer.load_state_dict(saved)
    elif resume:
        folder.check_free()
    folder.start(new=state is None)
    del state
    run = RunInfo.of(folder.configs, config, folder.rows, trainers[0].n_steps_done, folder.path)
    with watched(loggers, run, trainers) as logger_group:
        return _run(targets, batches, folder, progress, logger_group)


def _run(
    targets: list[TrainingTarget],
    batches: ActivationBatches,
    folder: RunFolder,
    progress: bool,
    logger_group: LoggerGroup,
) -> list[SAE]:
    from tqdm.auto import tqdm

    config = folder.config
    trainers, splitter = [f.trainer for f in targets], HookSplitter(targets, batches)
    n_steps, every, first = config.n_steps, config.steps_between_checkpoints, trainers[0]
    began, steps_before = time.perf_counter(), first.n_steps_done
    interrupted = False
    bar = tqdm(
        total=n_steps * config.batch_size,
        initial=first.n_tokens_done,
        unit="tok",
        unit_scale=True,
        desc="train",
        mininterval=0.5,
        disable=not progress,
    )
    x = next(batches, None) if first.n_steps_done < n_steps else None  # fills the pool: an interrupt here ends at once
    with bar, interrupts() as asked_to_stop:
        try:
            while x is not None:
                parts = splitter.split(x)
                for f in targets:
                    f.trainer.advance(*(parts[end] for end in f.ends))
                step = first.n_steps_done
                bar.update(len(x))
                if step % config.log_every == 0 or step == n_steps:
                    metrics = [t.metrics() for t in trainers]
                    rate = (step - steps_before) * config.batch_size / (time.perf_counter() - began)
                    extra = {"tokens_per_second": round(rate)}
                    rows = [{"sae": i, **m.to_dict(), **extra} for i, m in enumerate(metrics)]
                    folder.log(rows)
                    logger_group.log(rows)
                    bar.set_postfix_str(_postfix(metrics))
                interrupted = asked_to_stop.is_set() and step < n_steps
                if folder.path is not None and (interrupted or (step % every == 0 and step < n_steps)):
                    saes = [_finish(t, t.metrics(), False, folder.origin) for t in trainers]
                    state: dict[str, Any] = {
                        "trainers": [t.state_dict() for t in trainers],
                        "batches": batches.state_dict(),
                    }
                    state["trained_on"] = folder.origin and dict(folder.origin)
                    folder.checkpoint(step, state, saes)
                x = None if interrupted or step == n_steps else next(batches, None)
        except KeyboardInterrupt:
            interrupted = True
    logger_group.status = "interrupted" if interrupted else "finished"
    stepped = [t.n_steps_done > steps_before for t in trainers]  # not where a checkpoint lay at the last step
    if interrupted and not all(stepped):
        raise KeyboardInterrupt
    origin = folder.origin
    saes = [
        _finish(t, t.metrics() if s else None, not interrupted, origin) for t, s in zip(trainers, stepped, strict=True)
    ]
    folder.save(saes, finished=not interrupted)
    for i, sae in enumerate(saes):
        sae.history = folder.history(i)
    if interrupted and progress:
        where = f"; saved in {folder.path}, and the same call resumes it" if folder.path else ""
        bar.write(f"interrupted at step {first.n_steps_done} of {n_steps}: this is the SAE so far{where}")
    return saes


def _check_kinds(model: object, config: object) -> None:
    """ConfigError for arguments of another kind, which would be misread or fail far from here."""
    for what, value, kinds, fix in (
        ("a model", model, (LanguageModel, type(None)), "sk.load_model(name)"),
        ("a TrainConfig", config, (TrainConfig,), "sk.TrainConfig(n_tokens=...)"),
    ):
        if not isinstance(value, kinds):
            raise ConfigError(
                f"not {what}",
                got=type(value).__name__,
                accepted=", ".join(k.__name__.removesuffix("Type") for k in kinds),
                fix=f"make one with {fix}",
            )


def _batches(
    model: LanguageModel | None, source: ActivationSource, saes: Sequence[SAEConfig], config: TrainConfig
) -> ActivationBatches:
    missing = "the source of activations does not say at which hook point it reads"
    if isinstance(source, ModelActivations):
        missing = "training on text needs a model and a hook_name"
    if isinstance(source, ArraySource):
        missing = "an array does not say at which hook point of the model its activations were read"
    unknown = model is not None and isinstance(source, ArraySource) and {c.hook_name for c in saes} == {NO_HOOK_POINT}
    if unknown or any(c.hook_name is None for c in saes):
        raise ConfigError(
            missing,
            got="hook_name=None",
            accepted="the name of a hook point, or of several",
            fix='pass hook_name="blocks.15.hook_resid_post"',
        )
    if model is not None:
        check_provenance(source.provenance, model, "the activations to train on")
        for c in saes:
            if c.hook_name is not None:
                model.check_distinct(c.hook_name)
    return source.at(all_hooks(saes)).batches(config.batch_size, seed=config.seed, device=config.torch_device)


def _with_provenance(
    sae: SAEConfig, source: ActivationSource, dataset: str | None, batches: ActivationBatches
) -> SAEConfig:
    check_widths(sae, batches)
    p = source.provenance
    return sae.replace(
        token_filter=token_filter_of(sae, batches),
        weight_processing=p.weight_processing,
        model_name=p.model_name,
        model_fingerprint=p.model_fingerprint,
        context_size=p.context_size,
        prepend_bos=p.prepend_bos,
        dataset=sae.dataset or dataset,
    )


def _finish(trainer: Trainer, last: StepMetrics | None, finished: bool, origin: Mapping[str, str] | None) -> SAE:
    sae = trainer.finish()
    metrics = {} if last is None else {k: v for k, v in last.to_dict().items() if k not in ("lr", "grad_norm")}
    sae.training_summary = {
        **metrics,
        **trainer.l0_summary(),
        "finished": finished,
        "n_steps": trainer.config.n_steps,
        "config": trainer.config.to_dict(),
        **({} if origin is None else {"trained_on": dict(origin)}),
    }
    return sae


def _postfix(metrics: Sequence[StepMetrics]) -> str:
    def joined(values: list[str]) -> str:
        return "/".join(values)

    return (
        f"loss {joined([f'{m.loss:.3g}' for m in metrics])}, L0 {joined([f'{m.l0:.0f}' for m in metrics])}, "
        f"EV {joined([f'{m.explained_variance:.3f}' for m in metrics])}, "
        f"dead {joined([str(m.dead_features) for m in metrics])}"
    )
