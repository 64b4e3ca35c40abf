"""Labels from a command to the edge: which event is meant, send until acknowledged, print the edge's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.markup import escape

from agents.cli.tables import line_width, text_console
from agents.client.answer_text import line
from agents.client.edge_reader import EdgeReader
from agents.client.labelling import LabelDelivery, replies_to_labels
from agents.client.site_client import connect
from pipeline import ids, topics
from pipeline.errors import Stop
from pipeline.settings.settings import Settings


def find(reader: EdgeReader | None, settings: Settings, event: str, device: str) -> tuple[str, str, str]:
    """Return the whole id of the event that is meant, its site and its device.

    Raises
    ------
    Rejected, Stop
        No such event is known here, or no edge of this machine can know it.
    """
    if device and not topics.is_name(device):
        raise Stop(f"--device {device}: not a device's name; names are of a-z, 0-9, - and _")
    if ids.is_event_id(event) and device:
        return event, settings.site, device
    if reader is None:
        raise Stop(
            f"no edge ran on this machine ({settings.data_dir / 'edge'}): give the event's whole id and its --device"
        )
    answer = reader.event(event)
    if device and device != answer.device:
        raise Stop(f"event {answer.event} is of device {answer.device}, not of {device}")
    return answer.event, answer.site, answer.device


def send(settings: Settings, labels: Sequence[LabelDelivery], *, as_json: bool) -> Sequence[LabelDelivery]:
    """Send labels to the edge and print its answers. Raises `Retry` where no broker or no edge answers."""
    devices = [each.topic.split("/")[3] for each in labels]
    if labels:
        with connect(settings, "label", replies_to_labels(settings.site, devices)) as site:
            for each in site.deliver_labels(labels):
                (_print_json if as_json else _print)(each)
    return labels


def _print(sent: LabelDelivery) -> None:
    console = text_console(stderr=sent.refusal is not None)
    if sent.refusal is not None:
        refusal = sent.refusal
        console.print(f"[red]{escape(sent.name)}: refused ({refusal.reason}): {escape(refusal.detail)}[/]")
        return
    done = "withdrawn" if sent.label.label is None else "labelled"
    if sent.answer is None:
        console.print(f"{escape(sent.name)}: {done}; the answer does not change")
        return
    console.print(f"{escape(sent.name)}: {done}\n  {escape(line(sent.answer, line_width(console)))}")
    console.print(f"  [dim]{escape(sent.answer.reason)}[/]")


def _print_json(sent: LabelDelivery) -> None:
    state = "refused" if sent.refusal is not None else "taken"
    fields: dict[str, Any] = {"name": sent.name, "label": sent.label, "state": state}
    if sent.refusal is not None:
        fields["refused"] = sent.refusal
    if sent.answer is not None:
        fields["result"] = sent.answer
    print(msgspec.json.encode(fields).decode(), flush=True)
