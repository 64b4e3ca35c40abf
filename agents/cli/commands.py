"""The table of all commands: the command line is built from it, and so are its help, its completion and its reference.

It names functions and imports none of them, so that help and completion stay quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of commands. A group may have a function, which runs if no subcommand is named."""

    name: str
    help: str
    """The command's line in the help. The function's docstring is the help of the command itself."""
    target: str = ""
    """``module:function``, the module within `agents.cli`."""
    panel: str | None = None
    commands: tuple[Command, ...] = ()


START: Final = "Start here"
SUBJECTS: Final = "By subject"
ROLES: Final = "Roles, one process each"
MACHINE: Final = "This machine"

SIGHTINGS: Final = (
    Command("list", "Count sightings by day and site, without any picture.", "sightings.counts:counts"),
    Command("picture", "Find the picture of an event on its device.", "sightings.picture:picture"),
)

LABELS: Final = (
    Command("add", "Label an event; the same as `tierwise label`.", "labels.add:label"),
    Command("import", "Send the labels of a CSV file to the edge.", "labels.csv_file:import_csv"),
    Command("list", "List people's labels of this edge's events.", "labels.given:list_labels"),
    Command("review", "Go through the events whose labels would teach most.", "labels.review:review"),
    Command("tree", "List the labels that exist, from kingdom to species.", "labels.tree:tree"),
)

TRAINING: Final = (
    Command("now", "Ask the trainer for a training.", "training.trainings:train"),
    Command("list", "List the trainings and their outcomes; or show one.", "training.trainings:list_trainings"),
    Command(
        "forget",
        "Remove an event, a device or a site from all that was learned.",
        "training.trainings:forget",
    ),
    Command("replay", "Learn from a camera's labelled visits, and answer the others.", "training.replay:replay"),
)

RELEASES: Final = (
    Command("status", "Show which release serves where, and which one is on trial.", "releases.status:status"),
    Command("explain", "Show the events, labels and figures that made a release.", "releases.lineage:explain"),
    Command("diff", "Compare two releases.", "releases.lineage:diff"),
    Command("promote", "Sign that a release is to serve.", "releases.serving:promote"),
    Command("rollback", "Go back to an older release.", "releases.serving:rollback"),
    Command("root", "Print the public keys that tiers verify releases with.", "releases.keys:root"),
    Command("rotate", "Give a signing role new keys.", "releases.keys:rotate"),
)

COMPRESS: Final = (
    Command("int8", "Store weights and activations as bytes.", "models.compress:int8"),
    Command("fp16", "Store weights as 16 bit floats: half the size.", "models.compress:fp16"),
    Command("prune", "Train glimpse again with fewer channels.", "models.compress:prune"),
)

MODELS: Final = (
    Command("list", "List the models and releases of this machine.", "models.catalogue:list_models"),
    Command("show", "Show the card of a model.", "models.catalogue:show"),
    Command("evaluate", "Measure the tiers on your labelled photos.", "models.evaluate:evaluate"),
    Command("import", "Check, try and measure an ONNX model, and add it.", "models.imported:import_model"),
    Command("fit", "Train a head for an imported backbone.", "models.imported:fit"),
    Command("remove", "Remove a version of an imported model.", "models.catalogue:remove"),
    Command("compress", "Make a float network smaller, and see the cost.", commands=COMPRESS),
)

BENCH: Final = (
    Command("ingest", "Measure the CPU time of a durable message.", "bench:ingest"),
    Command("route", "Measure routing beside Faust, quixstreams and aiokafka.", "bench:route"),
    Command("frames", "Measure frames through all tiers.", "bench:frames"),
    Command("idle", "Measure the whole stack while nothing happens.", "bench:idle"),
    Command("models", "Measure each model beside one pass of the backbone.", "bench:models"),
    Command("loop", "Measure the cost of learning.", "bench:loop"),
    Command("all", "Run all benchmarks, one after the other.", "bench:everything"),
)

INTAKE: Final = (
    Command("add", "Make a camera's login, and print what to type into it.", "deploying.intake:add"),
    Command("list", "List the cameras that have a login.", "deploying.intake:list_cameras"),
    Command("remove", "Remove a camera's login.", "deploying.intake:remove"),
)

COMMANDS: Final = (
    Command(
        "demo",
        "See everything on this machine, with real photos.",
        "demo:demo",
        START,
        (Command("learning", "Teach new species by labels, and compare.", "demo_learning:learning"),),
    ),
    Command("up", "Start brokers and roles on this machine, and restart them.", "machine.up:up", START),
    Command("publish", "Publish a photo, a folder or a reading, and see the answers.", "publish:publish", START),
    Command("classify", "Answer photos in this process, without a broker.", "classify:classify", START),
    Command("watch", "Watch sightings as they come; frames with --frames.", "sightings.watch:watch", START),
    Command("label", "Label an event; the edge learns from it.", "labels.add:label", START),
    Command("export", "Write sightings, answers or readings into a file.", "sightings.export:export", SUBJECTS),
    Command("sightings", "What was seen, and its pictures.", "", SUBJECTS, SIGHTINGS),
    Command("labels", "Labels of people: import, review, list.", "", SUBJECTS, LABELS),
    Command("training", "Trainings: ask for one, read reports, forget.", "", SUBJECTS, TRAINING),
    Command("releases", "Releases of learned heads: status, rollback, keys.", "", SUBJECTS, RELEASES),
    Command("models", "Models: list, evaluate, import your own.", "", SUBJECTS, MODELS),
    Command("device", "Answer frames and readings at their source.", "machine.roles:device", ROLES),
    Command("edge", "Refine a site's answers, and send on what may leave it.", "machine.roles:edge", ROLES),
    Command("gateway", "Move records between edges and Kafka.", "machine.roles:gateway", ROLES),
    Command("stream", "Route by privacy, sum up and count (Faust).", "machine.roles:stream", ROLES),
    Command("cloud", "Answer public features: species, patterns, forecasts.", "machine.roles:cloud", ROLES),
    Command("trainer", "Learn from labels; release better heads, signed.", "machine.roles:trainer", ROLES),
    Command("doctor", "Check this machine, and print how to repair it.", "machine.doctor:doctor", MACHINE),
    Command("health", "Show whether the roles of this machine are ready.", "machine.health:health", MACHINE),
    Command(
        "settings",
        "Check the settings file, or print a starter.",
        "",
        MACHINE,
        (
            Command("check", "Read the settings as every role does.", "machine.settings:check"),
            Command("explain", "Show what is in force for a stream, and why.", "machine.settings:explain"),
            Command("starter", "Print starter settings.", "machine.settings:starter"),
        ),
    ),
    Command("intake", "Cameras that upload by FTP or send e-mail.", "", MACHINE, INTAKE),
    Command("init", "Make every secret of a deployment, once.", "deploying.init:init", MACHINE),
    Command("credentials", "Print logins for people.", "deploying.credentials:credentials", MACHINE),
    Command(
        "provision",
        "Give logins their rights at Kafka and InfluxDB.",
        "",
        MACHINE,
        (
            Command("kafka", "Make topics, and give logins their rights.", "deploying.provision:kafka"),
            Command("influx", "Make the bucket and the tokens.", "deploying.provision:influx"),
        ),
    ),
    Command("bench", "Measure Tierwise beside its peers, as ratios.", "", MACHINE, BENCH),
    Command("version", "Print the version.", "machine.version:version", MACHINE),
)

MOVED: Final = {
    ("counts",): ("sightings", "list"),
    ("picture",): ("sightings", "picture"),
    ("review",): ("labels", "review"),
    ("learn",): ("training", "replay"),
    ("models", "labels"): ("labels", "tree"),
    ("models", "train"): ("training", "now"),
    ("models", "trainings"): ("training", "list"),
    ("models", "forget"): ("training", "forget"),
    ("models", "status"): ("releases", "status"),
    ("models", "explain"): ("releases", "explain"),
    ("models", "diff"): ("releases", "diff"),
    ("models", "promote"): ("releases", "promote"),
    ("models", "rollback"): ("releases", "rollback"),
}
"""Spellings of release 0.1 and today's. The old ones go on working for one release, and print the new one on stderr."""

CSV_OPTION: Final = "--csv"
"""An option of `tierwise label` in release 0.1. It became `tierwise labels import`."""


def spellings(commands: Sequence[Command] = COMMANDS, before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return every command as people type it, groups included.

    >>> [spelling for spelling in spellings() if spelling.startswith("settings")]
    ['settings', 'settings check', 'settings explain', 'settings starter']
    """
    found: list[str] = []
    for command in commands:
        words = (*before, command.name)
        found += [" ".join(words), *spellings(command.commands, words)]
    return tuple(found)


def renewed(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the words in today's spelling, and the line to print if the old one was used.

    >>> renewed(["models", "trainings", "2"])
    (['training', 'list', '2'], '`tierwise models trainings` is now `tierwise training list`')
    >>> renewed(["watch"])
    (['watch'], '')
    """
    for old, new in MOVED.items():
        if tuple(words[: len(old)]) == old:
            return [*new, *words[len(old) :]], _notice(old, new)
    rest = [word.removeprefix(f"{CSV_OPTION}=") for word in words if word != CSV_OPTION]
    if words[:1] == ["label"] and rest != words:
        return ["labels", "import", *rest[1:]], _notice(("label", CSV_OPTION), ("labels", "import"))
    return list(words), ""


def _notice(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    return f"`tierwise {' '.join(old)}` is now `tierwise {' '.join(new)}`"
