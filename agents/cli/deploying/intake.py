"""`tierwise intake`: logins of cameras that upload by FTP, and what to type into a camera.

$ tierwise intake add cam1
Type this into the camera of home/cam1/garden, under FTP:
  server     192.168.1.20
  port       2121
  ...
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agents.cli.options import SettingsFile
from agents.deploy.camera_logins import CameraLogins, login_name
from pipeline.errors import Stop
from pipeline.messages import Task
from pipeline.settings.intake_keys import NO_SERVER
from pipeline.settings.patterns import is_pattern
from pipeline.settings.settings import Settings

Camera = Annotated[str, typer.Argument(metavar="CAMERA", help="A camera stream, as cam1/garden, or its device, cam1.")]

EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  (compared with a setting)
MODES: Final = {
    "required": "FTPS, explicit (also called FTPES or AUTH TLS)",
    "optional": "FTPS, explicit, or FTP",
    "off": "FTP",
}

REPORTS: Final = """\
[streams."{device}/battery"]
task = "meter"
unit = "%"
reading = "edge-private"

[streams."{device}/temperature"]
task = "meter"
unit = "Cel"
reading = "edge-private"

[streams."{device}/signal"]
task = "meter"
unit = "dBm"
reading = "edge-private"

[streams."{device}/card"]
task = "meter"
unit = "%"
reading = "edge-private\""""
"""Settings of the streams that daily reports become."""


def add(camera: Camera, settings_file: SettingsFile = None) -> None:
    """Make the login of a camera, once, and print what to type into the camera. Run again, it prints the same."""
    settings = Settings.load(settings_file)
    source = _source(settings, camera)
    ftp, mail = settings.intake.ftp, settings.intake.mail
    pattern = settings.streams[source].mail
    if ftp.port == NO_SERVER and not (mail.host and pattern):
        raise Stop(
            'no way in is open: write under [intake.ftp] port = 2121 and listen = "0.0.0.0"; or fill [intake.mail], '
            f'and write mail = "*+{login_name(source)}@your.domain" under the stream'
        )
    if ftp.port != NO_SERVER:
        try:
            name, password = CameraLogins(settings.data_dir).add(source)
        except OSError as error:
            raise Stop(f"the login cannot be written to {settings.data_dir}: {error.strerror}") from None
        rows = {
            "server": ftp.public or (ftp.listen if ftp.listen not in EVERYWHERE else "the address of this machine"),
            "port": str(ftp.port),
            "user": name,
            "password": password,
            "folder": "/ (any folder will do)",
            "protocol": MODES[ftp.tls],
            "mode": f"passive (ports {ftp.passive_ports}), binary",
        }
        typer.echo(f"Type this into the camera of {source}, under FTP:")
        for key, value in rows.items():
            typer.echo(f"  {key:<10} {value}")
        if ftp.listen.startswith("127."):
            typer.echo("Only this machine reaches the server: for a camera, set listen and public under [intake.ftp].")
    if mail.host and pattern:
        typer.echo(f"Mails are taken from {mail.folder} of {mail.username} at {mail.host}, for {source}, if an address")
        typer.echo(f"of sender or recipient, or the subject, fits {pattern}. Type such an address into the camera.")
    device = source.split("/")[1]
    if f"{settings.site}/{device}/battery" not in settings.streams:
        typer.echo("Its daily reports become readings; to see them at the site, add to the settings:\n")
        typer.echo(REPORTS.format(device=device))


def list_cameras(settings_file: SettingsFile = None) -> None:
    """List the cameras that have a login, without their passwords."""
    settings = Settings.load(settings_file)
    known = {login_name(source): source for source in _cameras(settings)}
    for name in CameraLogins(settings.data_dir).names():
        typer.echo(f"{name:<24} {known.get(name, 'refused: the settings name no such stream')}")


def remove(camera: Camera, settings_file: SettingsFile = None) -> None:
    """Remove a camera's login; it is refused from its next connection on."""
    settings = Settings.load(settings_file)
    source = (
        camera
        if camera.count("/") == 2
        else f"{settings.site}/{camera}"
        if "/" in camera
        else _source(settings, camera)
    )
    if not CameraLogins(settings.data_dir).remove(source):
        raise Stop(f"{source} has no login; `tierwise intake list` shows those that exist")
    typer.echo(f"{source} has no login any more")


def _cameras(settings: Settings) -> list[str]:
    return [name for name, stream in settings.streams.items() if stream.task is Task.WILDLIFE and not is_pattern(name)]


def _source(settings: Settings, camera: str) -> str:
    """Return the camera's stream. Raises `Stop`."""
    cameras = _cameras(settings)
    found = [name for name in cameras if camera in (name, name.partition("/")[2], name.split("/")[1])]
    if len(found) == 1:
        return found[0]
    if found:
        raise Stop(f"{camera} has several camera streams: name one of {', '.join(n.partition('/')[2] for n in found)}")
    stream = camera if "/" in camera else f"{camera}/pictures"
    raise Stop(
        f'the settings name no camera stream "{camera}"; add it with its levels, as\n\n[streams."{stream}"]\n'
        'task = "wildlife"\npixels = "edge-private"\nfeature = "public"\nresult = "public"'
    )
