"""What is trained: networks, budgets, recipes, and the errors that others have published.

No number here was chosen on the test images: ``--validate`` shows how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secateur import (
    SET,
    ActivationNorm,
    ActivationTaylor,
    Apoz,
    Cosine,
    Cubic,
    DynamicSurgery,
    Exponential,
    Fisher,
    GeometricMedian,
    Gradient,
    Grasp,
    InitRelative,
    Iterative,
    Lamp,
    Linear,
    Magnitude,
    MeanActivation,
    Movement,
    Neurons,
    OneCycle,
    OneShot,
    Random,
    Recipe,
    RigL,
    Snip,
    SparseGpt,
    SynFlow,
    Taylor,
    Wanda,
)

SEEDS = 5
BATCH = 256
PERCEPTRON, CAFFE, SNIP = "LeNet-300-100", "LeNet-5-Caffe", "LeNet-5 of SNIP"
SPARSITIES = (0.8, 0.9, 0.95, 0.98, 0.99)
"""Of the curves in the chart."""
METHOD_EPOCHS = 8
SCORED = 10 * BATCH
"""Images from which scores are computed that need data."""
TEACHER_WEIGHT, TEMPERATURE = 0.8, 3.0
"""Of distillation."""
TWELFTH = 1 - 1 / 12
Making = Callable[[int, int], Recipe]
"""From the steps of the whole training, and of an epoch."""


@dataclass(frozen=True)
class Published:
    """An error in percent, where it was published, and the one that is asked of us."""

    error: float
    source: str
    target: float


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        name: of the case, unique.
        network: ``PERCEPTRON``, ``CAFFE`` or ``SNIP``.
        epochs: readings of the 60,000 images, over all rounds.
        rate: Adam's, at the beginning of each round, whence it falls by half a cosine.
        recipe: what to prune when; None to prune nothing.
        dropout: behind the hidden dense layers.
        input_dropout: of the images themselves, as the networks of its paper had it (Hinton et al. 2012).
        taught: by the dense network of the job of that name, with the same seed.
        rounds: how often the learning rate starts again.
        published: what others have reached.
    """

    name: str
    network: str
    epochs: int
    rate: float = 0.002
    recipe: Making | None = None
    dropout: float = 0.0
    input_dropout: float = 0.0
    taught: str = ""
    rounds: int = 1
    published: tuple[Published, ...] = ()


def jobs() -> list[Job]:
    """All, in the order in which they are trained."""
    return [*perceptrons(), *convolutions(), *methods(), *units()]


def gradually(sparsity: float, score: object | None = None, **options: object) -> Making:
    """Global magnitude, or another score, along a cubic from a tenth to six tenths of the training."""

    def recipe(steps: int, epoch: int) -> Recipe:
        schedule = Cubic(steps // 10, 6 * steps // 10, every=max(1, epoch // 5))
        return Recipe(sparsity, score=score or Magnitude(), schedule=schedule, **options)  # type: ignore[arg-type]

    return recipe


def at_once(sparsity: float, score: object) -> Making:
    """Before the training begins."""
    return lambda steps, epoch: Recipe(sparsity, score=score, schedule=OneShot(0))  # type: ignore[arg-type]


def perceptrons() -> list[Job]:
    """LeNet-300-100: the teacher, its pupils, the dense network of the same budget, and the winning ticket."""
    teacher = Job(f"{PERCEPTRON}, teacher", PERCEPTRON, epochs=40, dropout=0.3, input_dropout=0.2)
    pupil = {"network": PERCEPTRON, "epochs": 60, "rate": 0.003, "taught": teacher.name}
    regularised = pupil | {"dropout": 0.1, "input_dropout": 0.2}  # with so many weights left
    most = Published(2.4, "SNIP 2019, at 98 %", 1.75), Published(1.99, "dynamic network surgery 2016, at 98.2 %", 1.75)
    return [
        teacher,
        Job(f"{PERCEPTRON}, 98.2 % pruned", recipe=gradually(0.982, Wanda()), published=most, **pupil),
        Job(
            f"{PERCEPTRON}, 12 times fewer weights",
            recipe=gradually(TWELFTH, Wanda()),
            published=(Published(1.59, "Han et al. 2015", 1.50),),
            **regularised,
        ),
        Job(f"{PERCEPTRON}, dense", **regularised),
        Job(f"{PERCEPTRON}, dense, one round", PERCEPTRON, epochs=10, rate=0.0012),
        Job(
            f"{PERCEPTRON}, winning ticket at 21.1 %",
            PERCEPTRON,
            epochs=80,
            rate=0.0012,
            rounds=8,
            recipe=lambda steps, epoch: Recipe(1 - 0.211, schedule=Iterative(rounds=7, every=steps // 8, rewind=0)),
        ),
    ]


def convolutions() -> list[Job]:
    """Both LeNet-5, taught by the one that errs less."""
    teacher = Job(f"{SNIP}, teacher", SNIP, epochs=15, dropout=0.3)
    pupil = {"epochs": 20, "rate": 0.003, "taught": teacher.name}
    most = Published(1.1, "SNIP 2019", 0.90), Published(0.91, "dynamic network surgery 2016, at 99.1 %", 0.90)
    twelfth = (Published(0.77, "Han et al. 2015", 0.72),)
    ninety_nine, twelve, dense = "99 % pruned", "12 times fewer weights", "dense"
    return [
        teacher,
        Job(f"{SNIP}, {ninety_nine}", SNIP, recipe=gradually(0.99, Lamp()), published=most, **pupil),
        Job(f"{CAFFE}, {twelve}", CAFFE, recipe=gradually(TWELFTH, Lamp()), published=twelfth, **pupil),
        Job(f"{SNIP}, {twelve}", SNIP, recipe=gradually(TWELFTH, Lamp()), **pupil),
        Job(f"{CAFFE}, {ninety_nine}", CAFFE, recipe=gradually(0.99, Lamp()), **pupil),
        *(Job(f"{network}, {dense}", network, **pupil) for network in (CAFFE, SNIP)),
    ]


CURVES: dict[str, Callable[[float], Making]] = {
    "magnitude, gradual": gradually,
    "SNIP": lambda sparsity: at_once(sparsity, Snip()),
    "random, at the start": lambda sparsity: at_once(sparsity, Random()),
}
"""The methods of the chart, which are run at each of SPARSITIES."""


def curve_name(method: str, sparsity: float) -> str:
    """The name of the job of a method of CURVES."""
    return f"method: {method}, {100 * sparsity:g} %"


def methods() -> list[Job]:
    """The field's methods side by side on LeNet-300-100: the same short training, labels alone."""

    def job(name: str, recipe: Making, rounds: int = 1) -> Job:
        return Job(f"method: {name}", PERCEPTRON, METHOD_EPOCHS, recipe=recipe, rounds=rounds)

    points = [
        job(curve_name(name, sparsity).partition(": ")[2], make(sparsity))
        for sparsity in SPARSITIES
        for name, make in CURVES.items()
    ]
    gradual_scores = {
        "mean gradient": Gradient(),
        "Taylor": Taylor(),
        "Fisher": Fisher(),
        "movement": Movement(),
        "LAMP": Lamp(),
        "distance from initialisation": InitRelative(),
        "growth since initialisation": InitRelative(increase=True),
        "Wanda": Wanda(),
        "SparseGPT": SparseGpt(),
        "random": Random(),
    }
    first_scores = {"SNIP, 10 iterations": Snip(10), "GraSP": Grasp(), "SynFlow": SynFlow()}
    return [
        *points,
        *(job(f"{name}, gradual, 98 %", gradually(0.98, score)) for name, score in gradual_scores.items()),
        *(job(f"{name}, 98 %", at_once(0.98, score)) for name, score in first_scores.items()),
        *(job(f"magnitude, {each}, 98 %", gradually(0.98, allocation=each)) for each in ("uniform", "erk")),
        *(job(f"magnitude, {name}, 98 %", scheduled(0.98, name)) for name in SCHEDULES),
        *(job(f"{name}, 98 %", regrown(0.98, name)) for name in ("SET", "RigL", "dynamic network surgery")),
    ]


SCHEDULES = {
    "all at the middle": lambda begin, end, every: OneShot((begin + end) // 2),
    "linear": Linear,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}


def scheduled(sparsity: float, name: str) -> Making:
    """Magnitude along another schedule, over the same part of the training."""

    def recipe(steps: int, epoch: int) -> Recipe:
        return Recipe(sparsity, schedule=SCHEDULES[name](steps // 10, 6 * steps // 10, max(1, epoch // 5)))

    return recipe


def regrown(sparsity: float, name: str) -> Making:
    """Weights that come back: sparse from the start in the layers' shares of ERK, or while weights go gradually."""

    def recipe(steps: int, epoch: int) -> Recipe:
        times = {"begin": 0, "end": 6 * steps // 10, "every": max(1, epoch // 5)}
        if name == "dynamic network surgery":
            schedule = Cubic(steps // 10, 6 * steps // 10, every=times["every"])
            return Recipe(sparsity, schedule=schedule, regrowth=DynamicSurgery(**times, rate=0.1))
        regrowth = {"SET": SET, "RigL": RigL}[name]
        return Recipe(sparsity, allocation="erk", regrowth=regrowth(**times, share=0.3))

    return recipe


def units() -> list[Job]:
    """Scores of whole neurons: half of LeNet-300-100's go."""
    scores = {
        "magnitude": Magnitude(),
        "geometric median": GeometricMedian(),
        "zeros of activations": Apoz(),
        "mean activation": MeanActivation(),
        "activation norm": ActivationNorm(),
        "Taylor of activations": ActivationTaylor(),
    }
    return [
        Job(
            f"neurons: {name}, 50 %",
            PERCEPTRON,
            METHOD_EPOCHS,
            recipe=gradually(0.5, score, granularity=Neurons(), scope="layer"),
        )
        for name, score in scores.items()
    ]
