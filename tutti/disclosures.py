"""What looks at devices' data besides the noised sums, as a run's report has to say it."""

from client_sim.data.loader import Loader
from contract.task import TaskSpec
from trainer.vocabulary import Vocabulary, count_words


def vocabulary(spec: TaskSpec, loader: Loader) -> Vocabulary | None:
    """The words of the devices' own text, where the task asks for them; the report calls that not covered."""
    if spec.model.vocabulary != "data":
        return None
    texts = (str(example["text"]) for device in range(loader.num_devices) for example in loader.examples(device))
    return count_words(texts)


def not_covered(spec: TaskSpec) -> list[str]:
    """Accesses to the devices' data that the noised sums do not cover."""
    found = ["the simulator's own metrics and held-out accuracy, which a deployment would not have"]
    if spec.aggregation.ideal:
        found.append("what the cryptography would have hidden: this simulation used the ideal sum in its place")
    if spec.model.vocabulary == "data":
        found.append("a vocabulary drawn from the devices' text")
    if spec.privacy.mechanism != "none":
        found.append("hyperparameters, unless they were chosen on public data")
    return found


def disclosures(loader: Loader) -> tuple[str, ...]:
    """What the loader itself wants said of its data, such as an audit's devices among the real ones."""
    return tuple(getattr(loader, "disclosures", ()))
